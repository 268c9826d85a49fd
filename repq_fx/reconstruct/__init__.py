"""Learned rounding, steps and affines: AdaRound, BRECQ, QDrop and RepAPQ."""

from .losses import Fisher as Fisher
from .methods import BRECQ as BRECQ
from .methods import AdaRound as AdaRound
from .methods import QDrop as QDrop
from .methods import Reconstruction as Reconstruction
from .methods import RepAPQ as RepAPQ
from .methods import require_method as require_method
from .reconstruct import reconstruct as reconstruct

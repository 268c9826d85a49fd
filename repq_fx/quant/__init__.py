"""Schemes, range rules, weight quantizers and observers."""

from .histogram import TensorHistogram as TensorHistogram
from .kl_divergence import KL as KL
from .observers import ActivationObserver as ActivationObserver
from .observers import WeightObserver as WeightObserver
from .range_rules import MAE as MAE
from .range_rules import MSE as MSE
from .range_rules import MinMax as MinMax
from .scheme import Override as Override
from .scheme import Scheme as Scheme
from .weights import CoarseFine as CoarseFine
from .weights import PerChannel as PerChannel
from .weights import PerTensor as PerTensor
from .weights import QuantizedWeight as QuantizedWeight

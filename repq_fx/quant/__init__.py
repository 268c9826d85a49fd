"""Schemes, range rules, weight quantizers and observers."""

from .gptq import InputMoment as InputMoment
from .grid import AffineParameters as AffineParameters
from .grid import affine_parameters as affine_parameters
from .histogram import TensorHistogram as TensorHistogram
from .kl import KL as KL
from .observers import ActivationObserver as ActivationObserver
from .observers import WeightObserver as WeightObserver
from .quantized_module import QuantizedModule as QuantizedModule
from .quantized_weight import QuantizedWeight as QuantizedWeight
from .range_rules import MAE as MAE
from .range_rules import MSE as MSE
from .range_rules import Cosine as Cosine
from .range_rules import LpLoss as LpLoss
from .range_rules import MinMax as MinMax
from .range_rules import MovingAverageMinMax as MovingAverageMinMax
from .range_rules import Percentile as Percentile
from .range_rules import RangeRule as RangeRule
from .scheme import Override as Override
from .scheme import Scheme as Scheme
from .weights import CoarseFine as CoarseFine
from .weights import PerChannel as PerChannel
from .weights import PerTensor as PerTensor

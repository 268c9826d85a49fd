"""Schemes, range rules, weight quantizers and observers."""

from .grid import AffineParameters as AffineParameters
from .grid import affine_parameters as affine_parameters
from .observers import ActivationObserver as ActivationObserver
from .observers import WeightObserver as WeightObserver
from .plan import LayerPlan as LayerPlan
from .plan import TensorPlan as TensorPlan
from .ranges.histogram import TensorHistogram as TensorHistogram
from .ranges.kl import KL as KL
from .ranges.rules import MAE as MAE
from .ranges.rules import MSE as MSE
from .ranges.rules import Cosine as Cosine
from .ranges.rules import LpLoss as LpLoss
from .ranges.rules import MinMax as MinMax
from .ranges.rules import MovingAverageMinMax as MovingAverageMinMax
from .ranges.rules import Percentile as Percentile
from .ranges.rules import RangeRule as RangeRule
from .scheme import Override as Override
from .scheme import Scheme as Scheme
from .weights.gptq import InputMoment as InputMoment
from .weights.quantized_weight import QuantizedModule as QuantizedModule
from .weights.quantized_weight import QuantizedWeight as QuantizedWeight
from .weights.quantizers import CoarseFine as CoarseFine
from .weights.quantizers import PerChannel as PerChannel
from .weights.quantizers import PerTensor as PerTensor

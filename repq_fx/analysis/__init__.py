"""Read-only measurements of models."""

from .bit_operations import LayerBitOperations as LayerBitOperations
from .bit_operations import count_bit_operations as count_bit_operations
from .evaluation import agreement as agreement
from .evaluation import predict as predict
from .evaluation import sqnr_db as sqnr_db
from .evaluation import top1_accuracy as top1_accuracy
from .float_operations import float_operations as float_operations
from .latency import LatencyStatistics as LatencyStatistics
from .latency import in_channels_last as in_channels_last
from .latency import measure_latency as measure_latency
from .latency import thread_count as thread_count
from .sensitivity import fewest_float_layers as fewest_float_layers
from .sensitivity import layer_sensitivities as layer_sensitivities
from .slow_warning import warn_if_slow as warn_if_slow
from .speed import Speed as Speed
from .speed import StepTime as StepTime
from .speed import compare_speed as compare_speed

"""Read-only measurements of models."""

from .evaluation import predict as predict
from .evaluation import top1_accuracy as top1_accuracy
from .latency import LatencyStatistics as LatencyStatistics
from .latency import measure_latency as measure_latency
from .similarity import agreement as agreement
from .similarity import sqnr_db as sqnr_db

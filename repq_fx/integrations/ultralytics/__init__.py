"""`ultralytics` detectors: `quantize` returns a `YOLO` that predicts, validates, tracks in INT8."""

from .calibration import calibration_images as calibration_images
from .calibration import mean_average_precision as mean_average_precision
from .calibration import split_folders as split_folders
from .calibration import split_sizes as split_sizes
from .detector import SUFFIXES as SUFFIXES
from .detector import open_model as open_model
from .detector import require_detector as require_detector
from .quantize import float_layers as float_layers
from .quantize import image_size as image_size
from .quantize import layer_sensitivities as layer_sensitivities
from .quantize import merge as merge
from .quantize import quantize as quantize
from .saved import KIND as KIND
from .saved import is_quantized as is_quantized
from .saved import restore as restore
from .saved import save as save
from .scheme import as_detector_scheme as as_detector_scheme
from .scheme import detector_scheme as detector_scheme

"""Custom operators: reference kernel and gradient here, compiled kernels in csrc/."""

from .dequantize import dequantize as dequantize
from .dequantize import dequantize_reference as dequantize_reference
from .fake_quantize import fake_quantize as fake_quantize
from .fake_quantize import fake_quantize_reference as fake_quantize_reference
from .fake_quantize_backward import (
    fake_quantize_backward_reference as fake_quantize_backward_reference,
)
from .histogram import histogram as histogram
from .histogram import histogram_reference as histogram_reference
from .int8_program import CompiledProgram as CompiledProgram
from .int8_program import instruction_set as instruction_set
from .int8_program import new_program as new_program
from .kl_divergences import kl_divergences as kl_divergences
from .kl_divergences import kl_divergences_reference as kl_divergences_reference
from .quantize import quantize as quantize
from .quantize import quantize_reference as quantize_reference
from .range_losses import range_losses as range_losses
from .range_losses import range_losses_reference as range_losses_reference
from .reference.rounding import Rounding as Rounding
from .registration import compiled_devices as compiled_devices
from .registration import has_extension as has_extension
from .require_size import require_size_reference as require_size_reference
from .search_scale import search_scale as search_scale
from .search_scale import search_scale_reference as search_scale_reference
from .soft_round import soft_round as soft_round
from .soft_round import soft_round_reference as soft_round_reference
from .soft_round_backward import soft_round_backward_reference as soft_round_backward_reference
from .update_histogram import merge_bins as merge_bins
from .update_histogram import update_histogram as update_histogram
from .update_histogram import update_histogram_reference as update_histogram_reference

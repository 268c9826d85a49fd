"""From quantize, float operation and dequantize to integer instructions."""

from .lower_x86 import lower_to_x86 as lower_to_x86

#include "cpu/int8/portable/kernels.h"

namespace repq_fx::portable {

// Quads of input channels are read together, beyond the last of an image and of a group.
const Kernels kernels{.name = "portable",
                      .runs_here = [] { return true; },
                      .channel_multiple = 4,
                      .read_slack = 4,
                      .convolution = make_convolution,
                      .depthwise = make_depthwise,
                      .quantize = quantize,
                      .dequantize = dequantize,
                      .lookup = lookup,
                      .channel_lookup = channel_lookup,
                      .combine = combine,
                      .maximum = maximum,
                      .mean = mean,
                      .copy_pixels = copy_pixels,
                      .upsample_nearest = upsample_nearest,
                      .pixel_shuffle = pixel_shuffle};

}  // namespace repq_fx::portable

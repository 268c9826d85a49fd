#include "cpu/int8/kernels.h"

#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include "cpu/int8/avx512_vnni/kernels.h"

namespace repq_fx::avx512_vnni {
namespace {

bool runs_here() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

// What moves levels is left to the compiler, as the lookup in a table of each channel.
constexpr Kernels table{.name = "avx512_vnni",
                        .runs_here = runs_here,
                        .channel_multiple = 4,  // That one instruction sums.
                        .read_slack = read_slack,
                        .convolution = convolution::make,
                        .depthwise = depthwise::make,
                        .quantize = quantize,
                        .dequantize = dequantize,
                        .lookup = lookup,
                        .channel_lookup = nullptr,
                        .combine = combine,
                        .maximum = maximum,
                        .mean = mean,
                        .copy_pixels = nullptr,
                        .upsample_nearest = nullptr,
                        .pixel_shuffle = nullptr};

}  // namespace

const Kernels* const kernels = &table;

}  // namespace repq_fx::avx512_vnni

#else
const repq_fx::Kernels* const repq_fx::avx512_vnni::kernels = nullptr;
#endif

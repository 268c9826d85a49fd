// Vector operations of the INT8 kernels on x86 with AVX512-VNNI, selected at run time.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define REPQ_FX_AVX512_VNNI

#include <immintrin.h>

#include "cpu/int8_conv2d.h"

#define REPQ_FX_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define REPQ_FX_INLINE REPQ_FX_TARGET __attribute__((always_inline)) inline

namespace repq_fx::avx512 {

inline bool is_supported() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

// The first `remaining` channels of a block.
inline __mmask16 channel_mask(int64_t remaining) {
  return remaining < block_channels ? (1 << remaining) - 1 : 0xFFFF;
}

// Stores a block of sums as they are.
struct StoreValues {
  float* values;

  REPQ_FX_INLINE explicit StoreValues(const Output& output) : values(output.values) {}

  REPQ_FX_INLINE void operator()(int64_t offset, __mmask16 mask, __m512 sums) const {
    _mm512_mask_storeu_ps(values + offset, mask, sums);
  }
};

// Stores what `quantize_value` makes of a block of sums.
struct StoreCodes {
  uint8_t* codes;
  __m512 inverse_scale, lo, hi;  // Bounds in steps from the zero point.
  __m512i zero;

  REPQ_FX_INLINE explicit StoreCodes(const Output& output)
      : codes(output.codes),
        inverse_scale(_mm512_set1_ps(output.grid.inverse_scale)),
        lo(_mm512_set1_ps(output.grid.lo - output.grid.zero)),
        hi(_mm512_set1_ps(output.grid.hi - output.grid.zero)),
        zero(_mm512_set1_epi32(static_cast<int32_t>(output.grid.zero))) {}

  REPQ_FX_INLINE void operator()(int64_t offset, __mmask16 mask, __m512 sums) const {
    // The bounds are integers, so clamping before rounding changes nothing and rules overflow out.
    const __m512 above = _mm512_max_ps(_mm512_mul_ps(sums, inverse_scale), lo);
    const __m512i steps = _mm512_cvt_roundps_epi32(_mm512_min_ps(above, hi),
                                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(steps, zero));
    _mm_mask_storeu_epi8(codes + offset, mask, bytes);
  }
};

}  // namespace repq_fx::avx512

#endif

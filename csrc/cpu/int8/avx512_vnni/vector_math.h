// Sixteen numbers at once.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/int8/avx512_vnni/target.h"

namespace repq_fx::avx512_vnni {

constexpr int64_t lanes = 16;
// The plain intrinsics leave lanes undefined, of which GCC 12 warns (https://gcc.gnu.org/PR105593);
// with the full mask they cost the same.
constexpr __mmask16 all = 0xFFFF;

REPQ_FX_VNNI REPQ_FX_INLINE __mmask16 first_lanes(int64_t count) {
  return count >= lanes ? all : static_cast<__mmask16>((1U << count) - 1);
}

// 2**x for x up to 127; 0 below -126, as arithmetic on subnormal numbers takes a hundred times
// longer. The error is below 2e-7 of the result.
REPQ_FX_VNNI REPQ_FX_INLINE __m512 power_of_two(__m512 x) {
  constexpr auto ln2 = static_cast<float>(M_LN2);
  const __m512 t = _mm512_maskz_max_ps(all, _mm512_maskz_min_ps(all, x, _mm512_set1_ps(127)),
                                       _mm512_set1_ps(-127));
  const __m512 whole = _mm512_maskz_roundscale_ps(all, t, _MM_FROUND_TO_NEAREST_INT);
  const __m512 z = _mm512_mul_ps(_mm512_sub_ps(t, whole), _mm512_set1_ps(ln2));
  __m512 sum = _mm512_set1_ps(static_cast<float>(1.0 / 720));
  for (const double term : {1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1.0, 1.0}) {
    sum = _mm512_fmadd_ps(sum, z, _mm512_set1_ps(static_cast<float>(term)));
  }
  const __mmask16 normal = _mm512_cmp_ps_mask(t, _mm512_set1_ps(-126), _CMP_GT_OQ);
  return _mm512_maskz_scalef_ps(normal, sum, whole);
}

constexpr auto log2e = static_cast<float>(M_LOG2E);

REPQ_FX_VNNI REPQ_FX_INLINE __m512 exponential(__m512 x) {
  return power_of_two(_mm512_mul_ps(x, _mm512_set1_ps(log2e)));
}

// 1 / x for x from 1 on: an approximation to 14 bits and one step of Newton's, which take half the
// time of a division. The error is below 2e-7 of the result.
REPQ_FX_VNNI REPQ_FX_INLINE __m512 reciprocal(__m512 x) {
  const __m512 rough = _mm512_maskz_rcp14_ps(all, x);
  return _mm512_mul_ps(rough, _mm512_fnmadd_ps(x, rough, _mm512_set1_ps(2)));
}

}  // namespace repq_fx::avx512_vnni

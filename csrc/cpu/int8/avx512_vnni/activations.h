// The rows of `REPQ_FX_ACTIVATIONS` on vectors.
#pragma once

#include <cmath>

#include "cpu/int8/activations.h"
#include "cpu/int8/avx512_vnni/target.h"
#include "cpu/int8/avx512_vnni/vector_math.h"

namespace repq_fx::avx512_vnni {

// x / (1 + e**-y)
REPQ_FX_VNNI REPQ_FX_INLINE __m512 times_sigmoid(__m512 x, __m512 y) {
  const __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), y));
  return _mm512_mul_ps(x, reciprocal(_mm512_add_ps(e, _mm512_set1_ps(1))));
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 none(__m512 x, float) { return x; }

REPQ_FX_VNNI REPQ_FX_INLINE __m512 silu(__m512 x, float) { return times_sigmoid(x, x); }

REPQ_FX_VNNI REPQ_FX_INLINE __m512 sigmoid(__m512 x, float) {
  return times_sigmoid(_mm512_set1_ps(1), x);
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 hard_sigmoid(__m512 x, float) {
  const __m512 clipped = _mm512_maskz_min_ps(
      all, _mm512_maskz_max_ps(all, _mm512_add_ps(x, _mm512_set1_ps(3)), _mm512_setzero_ps()),
      _mm512_set1_ps(6));
  return _mm512_mul_ps(clipped, _mm512_set1_ps(static_cast<float>(1.0 / 6)));
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 hard_swish(__m512 x, float slope) {
  return _mm512_mul_ps(x, hard_sigmoid(x, slope));
}

// The error function by formula 7.1.26 of Abramowitz and Stegun: its error is below 1.5e-7.
REPQ_FX_VNNI REPQ_FX_INLINE __m512 gelu(__m512 x, float) {
  const __m512 magnitude =
      _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(static_cast<float>(M_SQRT1_2)));
  const __m512 one = _mm512_set1_ps(1);
  const __m512 t = reciprocal(_mm512_fmadd_ps(magnitude, _mm512_set1_ps(0.3275911f), one));
  __m512 sum = _mm512_set1_ps(1.061405429f);
  for (const float term : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) {
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(term));
  }
  const __m512 square = _mm512_mul_ps(magnitude, magnitude);
  // 1 - erf(|x| / sqrt(2)), of which half is the share of a negative x.
  const __m512 rest =
      _mm512_mul_ps(_mm512_mul_ps(sum, t), exponential(_mm512_sub_ps(_mm512_setzero_ps(), square)));
  const __m512 half = _mm512_mul_ps(_mm512_mul_ps(x, rest), _mm512_set1_ps(0.5f));
  const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
  return _mm512_mask_sub_ps(half, positive, x, half);
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 gelu_tanh(__m512 x, float) {
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
  const __m512 inner = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
  constexpr auto factor = static_cast<float>(2 * M_2_SQRTPI * M_SQRT1_2);
  return times_sigmoid(x, _mm512_mul_ps(inner, _mm512_set1_ps(factor)));
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 leaky_relu(__m512 x, float slope) {
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mask_mul_ps(x, negative, x, _mm512_set1_ps(slope));
}

template <Activation activation>
REPQ_FX_VNNI REPQ_FX_INLINE __m512 activate(__m512 x, float slope) {
#define REPQ_FX_CASE(name) \
  if constexpr (activation == Activation::name) return name(x, slope);
  REPQ_FX_ACTIVATIONS(REPQ_FX_CASE)
#undef REPQ_FX_CASE
}

}  // namespace repq_fx::avx512_vnni

// From real numbers to levels.
#pragma once

#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/avx512_vnni/target.h"
#include "cpu/int8/avx512_vnni/vector_math.h"
#include "cpu/int8/channel_numbers.h"
#include "cpu/int8/grids.h"

namespace repq_fx::avx512_vnni {

// The grid of an output, one value in all lanes.
struct LevelGrid {
  __m512 inverse_scale, lowest, highest;  // The last two in steps of the output.
  __m512i zero_point;

  REPQ_FX_VNNI REPQ_FX_INLINE explicit LevelGrid(const OutputGrid& grid)
      : inverse_scale(_mm512_set1_ps(grid.inverse_scale)),
        lowest(_mm512_set1_ps(static_cast<float>(grid.lowest - grid.zero_point))),
        highest(_mm512_set1_ps(static_cast<float>(grid.highest - grid.zero_point))),
        zero_point(_mm512_set1_epi32(grid.zero_point)) {}

  // Real numbers in steps of the output.
  REPQ_FX_VNNI REPQ_FX_INLINE __m512 steps(__m512 values) const {
    return _mm512_mul_ps(values, inverse_scale);
  }

  // 16 levels, as 32-bit numbers, of what is already in steps of the output.
  REPQ_FX_VNNI REPQ_FX_INLINE __m512i levels(__m512 steps) const {
    const __m512 inside =
        _mm512_maskz_min_ps(all, _mm512_maskz_max_ps(all, steps, lowest), highest);
    return _mm512_add_epi32(_mm512_maskz_cvtps_epi32(all, inside), zero_point);
  }

  REPQ_FX_VNNI REPQ_FX_INLINE __m128i round(__m512 steps) const {
    return _mm512_maskz_cvtepi32_epi8(all, levels(steps));
  }
};

// Factor and offset of 16 channels, times `unit`.
struct ChannelScale {
  __m512 factor, offset;

  REPQ_FX_VNNI REPQ_FX_INLINE ChannelScale(const OutputFunction& function, int64_t first,
                                           __mmask16 mask, float unit)
      : factor(load(function.factor, first, mask, unit)),
        offset(load(function.offset, first, mask, unit)) {}

  REPQ_FX_VNNI REPQ_FX_INLINE __m512 apply(__m512 activated) const {
    return _mm512_fmadd_ps(activated, factor, offset);
  }

 private:
  REPQ_FX_VNNI REPQ_FX_INLINE static __m512 load(const ChannelNumbers& numbers, int64_t first,
                                                 __mmask16 mask, float unit) {
    if (!numbers.differ()) return _mm512_set1_ps(numbers[0] * unit);
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, numbers.from(first)), _mm512_set1_ps(unit));
  }
};

}  // namespace repq_fx::avx512_vnni

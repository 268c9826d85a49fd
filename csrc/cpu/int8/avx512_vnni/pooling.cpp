#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <algorithm>
#include <cstdint>

#include "cpu/int8/avx512_vnni/kernels.h"
#include "cpu/int8/avx512_vnni/level_grid.h"
#include "cpu/int8/avx512_vnni/vector_math.h"

namespace repq_fx::avx512_vnni {

REPQ_FX_VNNI
void maximum(const PoolWindow& window, int64_t channels, uint8_t* levels) {
  constexpr int64_t bytes = 64;
  for (int64_t c = 0; c < channels; c += bytes) {
    __m512i largest = _mm512_setzero_si512();
    const uint8_t* row = window.data + c;
    for (int64_t i = 0; i < window.rows; ++i, row += window.row_step) {
      const uint8_t* pixel = row;
      for (int64_t j = 0; j < window.columns; ++j, pixel += window.column_step) {
        largest = _mm512_max_epu8(largest, _mm512_loadu_si512(pixel));
      }
    }
    const int64_t missing = std::max<int64_t>(c + bytes - channels, 0);
    _mm512_mask_storeu_epi8(levels + c, ~uint64_t{0} >> missing, largest);
  }
}

REPQ_FX_VNNI
void mean(const PoolWindow& window, int64_t channels, const MeanSettings& settings,
          uint8_t* levels) {
  const LevelGrid grid(settings.output);
  const __m512i start = _mm512_set1_epi32(settings.start(window));
  const __m512 factor = _mm512_set1_ps(settings.factor(window));
  for (int64_t c = 0; c < channels; c += lanes) {
    __m512i sums = start;
    const uint8_t* row = window.data + c;
    for (int64_t i = 0; i < window.rows; ++i, row += window.row_step) {
      const uint8_t* pixel = row;
      for (int64_t j = 0; j < window.columns; ++j, pixel += window.column_step) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixel));
        sums = _mm512_add_epi32(sums, _mm512_maskz_cvtepu8_epi32(all, bytes));
      }
    }
    const __m512 means = _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(all, sums), factor);
    _mm_mask_storeu_epi8(levels + c, first_lanes(channels - c), grid.round(grid.steps(means)));
  }
}

}  // namespace repq_fx::avx512_vnni
#endif

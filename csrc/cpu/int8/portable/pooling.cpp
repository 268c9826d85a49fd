// Windows of pixels.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/int8/portable/epilogue.h"
#include "cpu/int8/portable/kernels.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx::portable {

REPQ_FX_SIMD_CLONES
void maximum(const PoolWindow& window, int64_t channels, uint8_t* levels) {
  std::fill_n(levels, channels, uint8_t{0});
  for (int64_t i = 0; i < window.size(); ++i) {
    const uint8_t* pixel = window.data + i / window.columns * window.row_step +
                           i % window.columns * window.column_step;
    REPQ_FX_NO_OVERLAP
    for (int64_t c = 0; c < channels; ++c) levels[c] = std::max(levels[c], pixel[c]);
  }
}

REPQ_FX_SIMD_CLONES
static void add_window(const PoolWindow& window, int64_t channels, int32_t* sums) {
  for (int64_t i = 0; i < window.size(); ++i) {
    const uint8_t* pixel = window.data + i / window.columns * window.row_step +
                           i % window.columns * window.column_step;
    REPQ_FX_NO_OVERLAP
    for (int64_t c = 0; c < channels; ++c) sums[c] += pixel[c];
  }
}

void mean(const PoolWindow& window, int64_t channels, const MeanSettings& settings,
          uint8_t* levels) {
  std::vector<int32_t> sums(channels, settings.start(window));
  add_window(window, channels, sums.data());
  const float factor = settings.factor(window);
  const Rounding rounding(settings.output);
  for (int64_t c = 0; c < channels; ++c) {
    levels[c] = rounding.level(static_cast<float>(sums[c]) * factor);
  }
}

}  // namespace repq_fx::portable

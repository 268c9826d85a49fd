// Max and average pooling of 8-bit images.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels/epilogue.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

// A global pool has a kernel of the image's size.
struct PoolShape {
  std::array<int64_t, 2> kernel, stride, padding, dilation;  // Vertical, horizontal.
};

// A mean is that of the real values, `(level - input_zero_point) * scale`; it becomes a level as in
// `Epilogue`, whose other numbers are not read. Padding counts as zeros or not at all.
struct AverageSettings {
  float scale;
  int32_t input_zero_point;
  bool count_padding;
  Epilogue epilogue;
};

// The input pixels under a kernel.
struct PoolWindow {
  const uint8_t* data;
  int64_t rows, columns, row_step, column_step;
  // The size of the kernel with what lies in the padding. As in torch, what sticks out of the
  // padding does not count.
  int64_t padded_size;

  int64_t size() const { return rows * columns; }
};

// The windows of one output after the other.
class PoolWindows {
 public:
  PoolWindows(const PoolShape& shape, const InputImage& input, const OutputImage& output)
      : input_(input), output_(output), dilation_(shape.dilation) {
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t size = axis == 0 ? input.height : input.width;
      const int64_t outputs = axis == 0 ? output.height : output.width;
      for (int64_t i = 0; i < outputs; ++i) {
        const int64_t start = i * shape.stride[axis] - shape.padding[axis];
        // How many taps lie before a position.
        const auto before = [&](int64_t position) {
          const int64_t dilation = shape.dilation[axis];
          const int64_t distance = std::max<int64_t>(0, position - start);
          return std::min((distance + dilation - 1) / dilation, shape.kernel[axis]);
        };
        const int64_t outside = before(0), count = before(size) - outside;
        taps_[axis].push_back({.first = count > 0 ? start + outside * shape.dilation[axis] : 0,
                               .count = count,
                               .padded = before(size + shape.padding[axis])});
      }
    }
  }

  // Calls `pool(window, levels)` for the output pixels from `first` to `last`.
  template <typename Pool>
  void for_each(int64_t first, int64_t last, const Pool& pool) const {
    while (first < last) {
      const int64_t row = first / output_.width,
                    row_end = std::min((row + 1) * output_.width, last);
      const Taps& rows = taps_[0][row % output_.height];
      const int64_t y = row / output_.height * input_.height + rows.first;
      for (int64_t x = first - row * output_.width; first < row_end; ++first, ++x) {
        const Taps& columns = taps_[1][x];
        pool(PoolWindow{input_.data + (y * input_.width + columns.first) * input_.stride,
                        rows.count, columns.count, dilation_[0] * input_.width * input_.stride,
                        dilation_[1] * input_.stride, rows.padded * columns.padded},
             output_.data + first * output_.stride);
      }
    }
  }

 private:
  // Of an output along an axis: `count` inside the image from `first` on, and how many with the
  // padding.
  struct Taps {
    int64_t first, count, padded;
  };

  const InputImage& input_;
  const OutputImage& output_;
  std::array<int64_t, 2> dilation_;
  std::array<std::vector<Taps>, 2> taps_;
};

namespace portable {

REPQ_FX_SIMD_CLONES
static void maximum(const PoolWindow& window, int64_t channels, uint8_t* levels) {
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

inline void average(const PoolWindow& window, int64_t channels, int32_t start, float factor,
                    const Epilogue& epilogue, uint8_t* levels) {
  std::vector<int32_t> sums(channels, start);
  add_window(window, channels, sums.data());
  for (int64_t c = 0; c < channels; ++c) {
    levels[c] = to_level(static_cast<float>(sums[c]) * factor, epilogue);
  }
}

}  // namespace portable

#ifdef REPQ_FX_AVX512
namespace avx512 {

REPQ_FX_VNNI inline void maximum(const PoolWindow& window, int64_t channels, uint8_t* levels) {
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

REPQ_FX_VNNI inline void average(const PoolWindow& window, int64_t channels, int32_t start,
                                 float factor, const Epilogue& epilogue, uint8_t* levels) {
  const LevelGrid grid(epilogue);
  for (int64_t c = 0; c < channels; c += lanes) {
    __m512i sums = _mm512_set1_epi32(start);
    const uint8_t* row = window.data + c;
    for (int64_t i = 0; i < window.rows; ++i, row += window.row_step) {
      const uint8_t* pixel = row;
      for (int64_t j = 0; j < window.columns; ++j, pixel += window.column_step) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixel));
        sums = _mm512_add_epi32(sums, _mm512_maskz_cvtepu8_epi32(all, bytes));
      }
    }
    const __m512 means = _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(all, sums), _mm512_set1_ps(factor));
    _mm_mask_storeu_epi8(levels + c, first_lanes(channels - c), grid.round(grid.steps(means)));
  }
}

}  // namespace avx512
#endif

// The output pixels from `first` to `last`, counted over the whole batch. Padding never wins.
inline void max_pool(const PoolShape& shape, const InputImage& input, const OutputImage& output,
                     int64_t first, int64_t last) {
  const PoolWindows windows(shape, input, output);
  windows.for_each(first, last, [&](const PoolWindow& window, uint8_t* levels) {
#ifdef REPQ_FX_AVX512
    if (has_vnni()) return avx512::maximum(window, input.channels, levels);
#endif
    portable::maximum(window, input.channels, levels);
  });
}

inline void average_pool(const PoolShape& shape, const AverageSettings& settings,
                         const InputImage& input, const OutputImage& output, int64_t first,
                         int64_t last) {
  const PoolWindows windows(shape, input, output);
  windows.for_each(first, last, [&](const PoolWindow& window, uint8_t* levels) {
    const auto start = static_cast<int32_t>(-window.size() * settings.input_zero_point);
    const int64_t divisor = settings.count_padding ? window.padded_size : window.size();
    const float factor = settings.scale / static_cast<float>(divisor);
#ifdef REPQ_FX_AVX512
    if (has_vnni()) {
      return avx512::average(window, input.channels, start, factor, settings.epilogue, levels);
    }
#endif
    portable::average(window, input.channels, start, factor, settings.epilogue, levels);
  });
}

}  // namespace repq_fx

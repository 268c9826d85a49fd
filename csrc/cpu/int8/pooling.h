// The windows of max and average pooling.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cpu/int8/grids.h"
#include "cpu/int8/image.h"

namespace repq_fx {

// A global pool has a kernel of the image's size.
struct PoolShape {
  std::array<int64_t, 2> kernel, stride, padding, dilation;  // Vertical, horizontal.
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

// A mean is that of the real values of a window. Padding counts as zeros or not at all.
struct MeanSettings {
  InputGrid input;
  bool counts_padding;
  OutputGrid output;

  // What the sum of a window's levels starts with.
  int32_t start(const PoolWindow& window) const {
    return static_cast<int32_t>(-window.size() * input.zero_point);
  }
  // From that sum to the mean.
  float factor(const PoolWindow& window) const {
    const int64_t divisor = counts_padding ? window.padded_size : window.size();
    return input.scale / static_cast<float>(divisor);
  }
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

}  // namespace repq_fx

// Images between float32 of any layout and 8 bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/int8/image.h"

namespace repq_fx {

// Pixel `i` of all, counted row by row and image by image, is that of the levels.
template <typename T>
struct FloatImage {
  T* data;
  int64_t channels, height, width;
  int64_t batch_stride, channel_stride, row_stride, column_stride;
};

// Neighbouring pixels in both forms.
template <typename Float, typename Level>
struct ImageRow {
  Float* values;
  int64_t channel_stride, column_stride;
  Level* levels;
  int64_t stride;
  int64_t width, channels;
};

// Those from `pixel` to before `end` that lie in one row, and whose levels stay in L1.
template <typename Float, typename Level>
ImageRow<Float, Level> row_from(const FloatImage<Float>& values, const Image<Level>& levels,
                                int64_t pixel, int64_t end) {
  constexpr int64_t resident = 16 << 10, least = 64;
  const int64_t most = std::max(resident / std::max<int64_t>(1, levels.stride), least);
  const int64_t row = pixel / values.width, x = pixel % values.width;
  const int64_t image = row / values.height, y = row % values.height;
  return {
      values.data + image * values.batch_stride + y * values.row_stride + x * values.column_stride,
      values.channel_stride,
      values.column_stride,
      levels.data + pixel * levels.stride,
      levels.stride,
      std::min({most, values.width - x, end - pixel}),
      values.channels};
}

using QuantizeRow = ImageRow<const float, uint8_t>;
using DequantizeRow = ImageRow<float, const uint8_t>;

}  // namespace repq_fx

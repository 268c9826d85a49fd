// 8-bit images as the integer kernels see them.
#pragma once

#include <cstdint>

namespace repq_fx {

// Channels last: the channels of a pixel are adjacent, and pixel `i` of all, counted row by row and
// image by image, begins at `data + i * stride`. A view of some channels of another image has its
// stride. A matrix is an image of one pixel for each row.
//
// Kernels read whole groups of channels: up to `read_slack` bytes behind the last channel of the
// last pixel must be readable, whatever they hold.
template <typename T>
struct Image {
  T* data;
  int64_t batch, height, width, channels, stride;

  int64_t pixels() const { return batch * height * width; }
};

using InputImage = Image<const uint8_t>;
using OutputImage = Image<uint8_t>;

constexpr int64_t read_slack = 64;

// What a layer writes, and the image that it adds. Pixels are in the order of `Image`.
struct LayerOutput {
  const uint8_t* addend;  // The first channel of the first pixel; or null.
  int64_t addend_stride;
  uint8_t* levels;  // The same of the result; null for a result in float32.
  float* values;    // The same for float32; or null.
  int64_t stride;   // Of `levels` or `values`.
  int64_t height, width;
};

}  // namespace repq_fx

// 8-bit images as the integer kernels see them.
#pragma once

#include <cstdint>

namespace repq_fx {

// Channels last: the channels of a pixel are adjacent, and pixel `i` of all, counted row by row and
// image by image, begins at `data + i * stride`. A view of some channels of another image has its
// stride. A matrix is an image of one pixel for each row.
//
// Kernels read whole groups of channels: some bytes behind the last channel of the last pixel must
// be readable, whatever they hold; see `Kernels::read_slack`.
template <typename T>
struct Image {
  T* data;
  int64_t batch, height, width, channels, stride;

  int64_t pixels() const { return batch * height * width; }
};

using InputImage = Image<const uint8_t>;
using OutputImage = Image<uint8_t>;

}  // namespace repq_fx

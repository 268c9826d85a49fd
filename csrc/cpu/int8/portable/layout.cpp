// Copies that rearrange the pixels or channels of 8-bit images.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/int8/portable/kernels.h"

namespace repq_fx::portable {

void copy_pixels(const InputImage& input, const OutputImage& output, int64_t first, int64_t last) {
  const uint8_t* from = input.data + first * input.stride;
  uint8_t* to = output.data + first * output.stride;
  if (input.stride == input.channels && output.stride == input.channels) {
    std::memcpy(to, from, (last - first) * input.channels);
    return;
  }
  for (int64_t pixel = first; pixel < last; ++pixel) {
    std::memcpy(to, from, input.channels);
    from += input.stride;
    to += output.stride;
  }
}

void upsample_nearest(const InputImage& input, const OutputImage& output,
                      const std::array<float, 2>& steps, int64_t first, int64_t last) {
  const auto source = [](int64_t i, float step, int64_t size) {
    return std::min(static_cast<int64_t>(static_cast<float>(i) * step), size - 1);
  };
  std::vector<int64_t> offsets(output.width);
  for (int64_t x = 0; x < output.width; ++x) {
    offsets[x] = source(x, steps[1], input.width) * input.stride;
  }
  const int64_t channels = input.channels, stride = output.stride;
  for (int64_t row = first; row < last; ++row) {
    const int64_t y =
        row / output.height * input.height + source(row % output.height, steps[0], input.height);
    const uint8_t* from = input.data + y * input.width * input.stride;
    uint8_t* to = output.data + row * output.width * output.stride;
    for (const int64_t offset : offsets) {
      std::memcpy(to, from + offset, channels);
      to += stride;
    }
  }
}

// Channel c * factor**2 + i * factor + j of the input's pixel (y, x) is channel c of the output's
// pixel (y * factor + i, x * factor + j).
void pixel_shuffle(const InputImage& input, const OutputImage& output, int64_t factor,
                   int64_t first, int64_t last) {
  const int64_t square = factor * factor;
  for (int64_t row = first; row < last; ++row) {
    for (int64_t x = 0; x < input.width; ++x) {
      const uint8_t* from = input.data + (row * input.width + x) * input.stride;
      for (int64_t part = 0; part < square; ++part) {
        const int64_t y = row * factor + part / factor;
        uint8_t* to = output.data + (y * output.width + x * factor + part % factor) * output.stride;
        for (int64_t c = 0; c < output.channels; ++c) to[c] = from[c * square + part];
      }
    }
  }
}

}  // namespace repq_fx::portable

// Copies that rearrange the pixels or channels of 8-bit images.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/int8/image.h"

namespace repq_fx {

// The pixels from `first` to `last`, counted over the whole batch, to an image of the same size
// that may be a view of some channels of a larger one.
inline void copy_channels(const InputImage& input, const OutputImage& output, int64_t first,
                          int64_t last) {
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

// The output rows from `first` to `last`, counted over the whole batch. Output position i takes
// input position floor(i * step), with the steps (vertical, horizontal) of torch's "nearest": input
// size / output size, or 1 / scale factor where one was given; in float32, as torch reckons.
inline void upsample_nearest(const InputImage& input, const OutputImage& output,
                             const std::array<float, 2>& steps, int64_t first, int64_t last) {
  const auto source = [](int64_t i, float step, int64_t size) {
    return std::min(static_cast<int64_t>(static_cast<float>(i) * step), size - 1);
  };
  std::vector<int64_t> offsets(output.width);
  for (int64_t x = 0; x < output.width; ++x) {
    offsets[x] = source(x, steps[1], input.width) * input.stride;
  }
  for (int64_t row = first; row < last; ++row) {
    const int64_t y =
        row / output.height * input.height + source(row % output.height, steps[0], input.height);
    const uint8_t* from = input.data + y * input.width * input.stride;
    uint8_t* to = output.data + row * output.width * output.stride;
    for (const int64_t offset : offsets) {
      std::memcpy(to, from + offset, input.channels);
      to += output.stride;
    }
  }
}

// Calls `move(deep, flat)` for each byte of the deep image's rows from `first` to `last`, counted
// over the whole batch: channel c * factor**2 + i * factor + j of its pixel (y, x) is channel c of
// the flat image's pixel (y * factor + i, x * factor + j).
template <typename Deep, typename Flat, typename Move>
void for_shuffled(const Image<Deep>& deep, const Image<Flat>& flat, int64_t factor, int64_t first,
                  int64_t last, const Move& move) {
  const int64_t square = factor * factor;
  for (int64_t row = first; row < last; ++row) {
    for (int64_t x = 0; x < deep.width; ++x) {
      Deep* pixel = deep.data + (row * deep.width + x) * deep.stride;
      for (int64_t part = 0; part < square; ++part) {
        const int64_t y = row * factor + part / factor;
        Flat* shuffled = flat.data + (y * flat.width + x * factor + part % factor) * flat.stride;
        for (int64_t c = 0; c < flat.channels; ++c) move(pixel[c * square + part], shuffled[c]);
      }
    }
  }
}

// Torch's `pixel_shuffle`, of the input rows from `first` to `last`.
inline void pixel_shuffle(const InputImage& input, const OutputImage& output, int64_t factor,
                          int64_t first, int64_t last) {
  for_shuffled(input, output, factor, first, last, [](uint8_t from, uint8_t& to) { to = from; });
}

// Torch's `pixel_unshuffle`, of the output rows from `first` to `last`.
inline void pixel_unshuffle(const InputImage& input, const OutputImage& output, int64_t factor,
                            int64_t first, int64_t last) {
  for_shuffled(output, input, factor, first, last, [](uint8_t& to, uint8_t from) { to = from; });
}

}  // namespace repq_fx

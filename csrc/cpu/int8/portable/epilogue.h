// What follows the sums of a layer or of images: an activation function and the rounding to 8 bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/grids.h"
#include "cpu/int8/layer.h"
#include "cpu/int8/portable/activations.h"

namespace repq_fx::portable {

inline float value_of(float x, int64_t channel, const OutputFunction& function) {
  return activate(x, function) * function.factor[channel] + function.offset[channel];
}

inline uint8_t to_level(float value, const OutputGrid& grid) {
  const float steps = value * grid.inverse_scale;
  const auto lowest = static_cast<float>(grid.lowest - grid.zero_point);
  const auto highest = static_cast<float>(grid.highest - grid.zero_point);
  const float inside = std::min(std::max(lowest, steps), highest);  // Of a NaN, `lowest`.
  // Adding and taking away 1.5 * 2**23 rounds to an integer, ties to even, without a call.
  constexpr float round = 0x1.8p23f;
  return static_cast<uint8_t>(static_cast<int32_t>((inside + round) - round) + grid.zero_point);
}

// Of some neighbouring channels of a pixel.
struct PixelSums {
  const int32_t* fine;
  const int32_t* coarse;  // Null without coarse weights.
  int64_t first_channel, channels;
};

// Turns sums into levels or values of the output's pixel `index`.
inline void finish(const PixelSums& sums, const Layer& layer, const LayerOutput& output,
                   int64_t index) {
  for (int64_t i = 0; i < sums.channels; ++i) {
    const int64_t channel = sums.first_channel + i;
    float x = static_cast<float>(sums.fine[i]) * layer.scale[channel] + layer.bias[channel];
    if (sums.coarse != nullptr) {
      x += static_cast<float>(sums.coarse[i]) * layer.coarse_scale[channel];
    }
    if (output.addend != nullptr) {
      const int32_t level = output.addend[index * output.addend_stride + channel];
      x += static_cast<float>(level - layer.addend.zero_point) * layer.addend.scale;
    }
    const float value = value_of(x, channel, layer.function);
    const int64_t o = index * output.stride + channel;
    if (output.levels != nullptr) {
      output.levels[o] = to_level(value, layer.output);
    } else {
      output.values[o] = value;
    }
  }
}

}  // namespace repq_fx::portable

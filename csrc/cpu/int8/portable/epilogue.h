// What follows the sums of a layer or of images: an activation function and the rounding to 8 bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/grids.h"
#include "cpu/int8/layer.h"
#include "cpu/int8/portable/activations.h"

namespace repq_fx::portable {

// From real numbers to levels. Like `Function`, a copy for a loop: to the compiler, a level that
// the loop writes may be any of the original numbers.
class Rounding {
 public:
  explicit Rounding(const OutputGrid& grid)
      : inverse_scale_(grid.inverse_scale),
        lowest_(static_cast<float>(grid.lowest - grid.zero_point)),
        highest_(static_cast<float>(grid.highest - grid.zero_point)),
        zero_point_(grid.zero_point) {}

  uint8_t level(float value) const {
    const float steps = value * inverse_scale_;
    const float inside = std::min(std::max(lowest_, steps), highest_);  // Of a NaN, `lowest_`.
    // Adding and taking away 1.5 * 2**23 rounds to an integer, ties to even, without a call.
    constexpr float round = 0x1.8p23f;
    return static_cast<uint8_t>(static_cast<int32_t>((inside + round) - round) + zero_point_);
  }

 private:
  float inverse_scale_, lowest_, highest_;
  int32_t zero_point_;
};

// An `OutputFunction` of channels from one on.
template <Activation activation>
class Function {
 public:
  Function(const OutputFunction& function, int64_t first_channel)
      : slope_(function.slope),
        factor_(function.factor.from(first_channel)),
        offset_(function.offset.from(first_channel)),
        factor_step_(function.factor.differ()),
        offset_step_(function.offset.differ()) {}

  float value(float x, int64_t channel) const {
    return activate<activation>(x, slope_) * factor_[channel * factor_step_] +
           offset_[channel * offset_step_];
  }

 private:
  float slope_;
  const float* factor_;
  const float* offset_;
  int64_t factor_step_, offset_step_;
};

// Of some neighbouring channels of a pixel.
struct PixelSums {
  const int32_t* fine;
  const int32_t* coarse;  // Null without coarse weights.
  int64_t first_channel, channels;
};

// Turns sums into levels or values of the output's pixel `index`.
void finish(const PixelSums& sums, const Layer& layer, const LayerOutput& output, int64_t index);

}  // namespace repq_fx::portable

// What levels stand for.
#pragma once

#include <cstdint>

namespace repq_fx {

// value = (level - zero_point) * scale
struct InputGrid {
  float scale = 0;
  int32_t zero_point = 0;
};

// level = clamp(round_to_even(value * inverse_scale) + zero_point, lowest, highest), where a NaN
// becomes the lowest level.
struct OutputGrid {
  float inverse_scale = 0;
  int32_t zero_point = 0, lowest = 0, highest = 255;
};

}  // namespace repq_fx

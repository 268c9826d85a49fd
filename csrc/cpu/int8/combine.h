// Sums, differences and products of two 8-bit images.
#pragma once

#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/grids.h"

namespace repq_fx {

enum class Combination : int8_t { sum, difference, product };

// x = (a - a_zero) * a_scale (+ or - or *) (b - b_zero) * b_scale, before the function.
struct CombineSettings {
  Combination combination;
  InputGrid a, b;
  OutputFunction function;
  OutputGrid output;
};

// Neighbouring pixels.
struct PixelPair {
  const uint8_t* a;
  const uint8_t* b;
  uint8_t* levels;
  int64_t a_stride, b_stride, stride;  // `b_stride` is 0 where one pixel of b meets all of a.
  int64_t pixels, channels;
};

}  // namespace repq_fx

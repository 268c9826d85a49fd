// The functions that may follow the sums of a layer or a sum of images.
#pragma once

#include <cstdint>

#include "cpu/int8/channel_numbers.h"

namespace repq_fx {

// The table of activation functions, by the names that programs use. What a row means is the
// function of its name in `portable/activations.h`, on a number and a slope; each instruction set
// with an epilogue of its own has one of that name on vectors. Those that only clip are not here:
// they are bounds of the output's levels.
#define REPQ_FX_ACTIVATIONS(ROW) \
  ROW(none)                      \
  ROW(silu)                      \
  ROW(sigmoid)                   \
  ROW(hard_swish)                \
  ROW(hard_sigmoid)              \
  ROW(gelu)                      \
  ROW(gelu_tanh)                 \
  ROW(leaky_relu)

enum class Activation : int8_t {
#define REPQ_FX_ENUMERATOR(name) name,
  REPQ_FX_ACTIVATIONS(REPQ_FX_ENUMERATOR)
#undef REPQ_FX_ENUMERATOR
};

// activation(x) * factor[channel] + offset[channel]
struct OutputFunction {
  Activation activation = Activation::none;
  float slope = 0;  // Of `leaky_relu` below zero.
  ChannelNumbers factor{{1}}, offset{{0}};

  bool has_offset() const {
    return !offset.all([](float number) { return number == 0; });
  }
  bool differs_by_channel() const { return factor.differ() || offset.differ(); }
};

}  // namespace repq_fx

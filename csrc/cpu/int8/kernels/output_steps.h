// Rounding of sums while they are in registers: in steps of the output, before an activation
// function that returns a share of its argument.
#pragma once

#include <cmath>
#include <vector>

#include "cpu/int8/channel_numbers.h"
#include "cpu/int8/kernels/epilogue.h"

namespace repq_fx {

// Whether sums can be rounded from registers behind the function.
constexpr bool is_in_registers(Activation activation) {
  return activation == Activation::none || activation == Activation::silu ||
         activation == Activation::hard_swish;
}

// Of what such a function takes: so that 2**x is the exponential in a SiLU, real numbers are
// scaled.
constexpr float argument_unit(Activation activation) {
  return activation == Activation::silu ? static_cast<float>(-M_LOG2E) : 1;
}

// Of each channel, what sums are scaled by, and what a step is in the unit of the function's
// argument.
struct OutputSteps {
  ChannelNumbers per_real, unit;
  // Whether the epilogue is such a function, a positive factor and a rounding. Whether the steps of
  // all sums fit int32 is another question.
  bool suffice;

  explicit OutputSteps(const Epilogue& epilogue)
      : per_real(
            epilogue.factor.map([&](float factor) { return factor * epilogue.inverse_scale; })),
        unit(per_real.map([&](float steps) { return argument_unit(epilogue.activation) / steps; })),
        suffice(is_in_registers(epilogue.activation) && !epilogue.has_offset() &&
                per_real.all([](float steps) { return 0x1p-126f <= steps && steps <= 0x1p126f; })) {
  }
};

#ifdef REPQ_FX_AVX512
namespace avx512 {

// An activation function that returns a share of its argument, which is given in steps and as `x`
// in the unit of `argument_unit`.
template <Activation activation>
REPQ_FX_VNNI REPQ_FX_INLINE __m512 activate_steps(__m512 steps, __m512 x) {
  if constexpr (activation == Activation::silu) {
    return _mm512_mul_ps(steps, reciprocal(_mm512_add_ps(power_of_two(x), _mm512_set1_ps(1))));
  }
  if constexpr (activation == Activation::hard_swish) return _mm512_mul_ps(steps, hard_sigmoid(x));
  return steps;
}

}  // namespace avx512
#endif

}  // namespace repq_fx

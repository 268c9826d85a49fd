// Rounding of sums while they are in registers: in steps of the output, before an activation
// function that returns a share of its argument.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/avx512_vnni/activations.h"
#include "cpu/int8/avx512_vnni/target.h"
#include "cpu/int8/channel_numbers.h"
#include "cpu/int8/grids.h"

namespace repq_fx::avx512_vnni {

// Those behind which sums are rounded from registers.
constexpr std::array register_functions{Activation::none, Activation::silu, Activation::hard_swish};
constexpr size_t register_function_count = register_functions.size();

// Where a function is among them; their number if it is not.
constexpr size_t register_function(Activation activation) {
  return std::ranges::find(register_functions, activation) - register_functions.begin();
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
  // Whether all is such a function, a positive factor and a rounding. Whether the steps of all sums
  // fit int32 is another question.
  bool suffice;

  OutputSteps(const OutputFunction& function, const OutputGrid& grid)
      : per_real(function.factor.map([&](float factor) { return factor * grid.inverse_scale; })),
        unit(per_real.map([&](float steps) { return argument_unit(function.activation) / steps; })),
        suffice(register_function(function.activation) < register_function_count &&
                !function.has_offset() &&
                per_real.all([](float steps) { return 0x1p-126f <= steps && steps <= 0x1p126f; })) {
  }
};

// One of `register_functions`, of what is given in steps and as `x` in the unit of `argument_unit`.
template <Activation activation>
REPQ_FX_VNNI REPQ_FX_INLINE __m512 activate_steps(__m512 steps, __m512 x) {
  if constexpr (activation == Activation::silu) {
    return _mm512_mul_ps(steps, reciprocal(_mm512_add_ps(power_of_two(x), _mm512_set1_ps(1))));
  }
  if constexpr (activation == Activation::hard_swish) {
    return _mm512_mul_ps(steps, hard_sigmoid(x, 0));
  }
  return steps;
}

}  // namespace repq_fx::avx512_vnni

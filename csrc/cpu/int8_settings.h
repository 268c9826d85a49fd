// Arguments of a program's steps, as kernels take them.
#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/int8_epilogue.h"
#include "cpu/int8_step.h"

namespace repq_fx {

inline Activation activation_of(const std::string& name) {
  using enum Activation;
  constexpr std::array<std::pair<const char*, Activation>, 8> names{{
      {"none", none},
      {"silu", silu},
      {"sigmoid", sigmoid},
      {"hard_swish", hard_swish},
      {"hard_sigmoid", hard_sigmoid},
      {"gelu", gelu},
      {"gelu_tanh", gelu_tanh},
      {"leaky_relu", leaky_relu},
  }};
  for (const auto& [known, activation] : names) {
    if (name == known) return activation;
  }
  TORCH_CHECK_VALUE(false, "program: unknown activation function ", name);
}

// Without scale and bias.
inline Epilogue epilogue_of(const std::string& activation, double slope,
                            const std::optional<GridArgument>& output_grid) {
  Epilogue epilogue{.scale = nullptr, .bias = nullptr};
  epilogue.activation = activation_of(activation);
  epilogue.slope = static_cast<float>(slope);
  if (output_grid) {
    const auto& [scale, zero_point, lowest, highest] = *output_grid;
    epilogue.inverse_scale = 1.0f / static_cast<float>(scale);
    epilogue.zero_point = static_cast<int32_t>(zero_point);
    epilogue.lowest = static_cast<int32_t>(lowest);
    epilogue.highest = static_cast<int32_t>(highest);
  }
  return epilogue;
}

// Rows and columns.
inline std::array<int64_t, 2> pair_of(const std::vector<int64_t>& values) {
  TORCH_CHECK_VALUE(values.size() == 2, "program: expected two numbers, of rows and columns, got ",
                    values.size());
  return {values[0], values[1]};
}

}  // namespace repq_fx

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

// A file may hold anything: numbers that kernels would index or divide by are checked.
inline const GridArgument& checked(const GridArgument& grid) {
  const auto& [scale, zero_point, lowest, highest] = grid;
  TORCH_CHECK_VALUE(0x1p-126 <= scale && scale <= 0x1p126 && 0 <= lowest && lowest <= highest &&
                        highest <= 255 && 0 <= zero_point && zero_point <= 255,
                    "program: expected a grid of levels from 0 to 255, got scale=", scale,
                    ", zero_point=", zero_point, ", lowest=", lowest, ", highest=", highest);
  return grid;
}

// Without scale and bias.
inline Epilogue epilogue_of(const std::string& activation, double slope,
                            const std::optional<GridArgument>& output_grid) {
  Epilogue epilogue{.scale = nullptr, .bias = nullptr};
  epilogue.activation = activation_of(activation);
  epilogue.slope = static_cast<float>(slope);
  if (output_grid) {
    const auto& [scale, zero_point, lowest, highest] = checked(*output_grid);
    epilogue.inverse_scale = 1.0f / static_cast<float>(scale);
    epilogue.zero_point = static_cast<int32_t>(zero_point);
    epilogue.lowest = static_cast<int32_t>(lowest);
    epilogue.highest = static_cast<int32_t>(highest);
  }
  return epilogue;
}

// Rows and columns.
inline std::array<int64_t, 2> pair_of(const std::vector<int64_t>& values, int64_t least = 1) {
  TORCH_CHECK_VALUE(values.size() == 2 && values[0] >= least && values[1] >= least,
                    "program: expected rows and columns of at least ", least, ", got ", values);
  return {values[0], values[1]};
}

}  // namespace repq_fx

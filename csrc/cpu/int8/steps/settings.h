// Arguments of a program's steps, as kernels take them.
#pragma once

#include <c10/util/Exception.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/int8/activations.h"
#include "cpu/int8/channel_numbers.h"
#include "cpu/int8/grids.h"

namespace repq_fx {

// Scale, zero point, lowest and highest level.
using GridArgument = std::tuple<double, int64_t, int64_t, int64_t>;

// An activation function by its name, the slope of a leaky ReLU below zero, and the factor and the
// offset of what it returns: one number for all channels, or one for each.
using FunctionArgument = std::tuple<std::string, double, std::vector<double>, std::vector<double>>;

inline Activation activation_of(const std::string& name) {
#define REPQ_FX_COMPARE(known) \
  if (name == #known) return Activation::known;
  REPQ_FX_ACTIVATIONS(REPQ_FX_COMPARE)
#undef REPQ_FX_COMPARE
  TORCH_CHECK_VALUE(false, "program: unknown activation function ", name);
}

// A file may hold anything: numbers that kernels would index or divide by are checked. No real
// network has a stride, window or factor of more, and products of two of them with the size of any
// value fit int64.
constexpr int64_t largest_setting = int64_t{1} << 16;

inline int64_t setting_of(const char* step, const char* name, int64_t value, int64_t least = 1) {
  TORCH_CHECK_VALUE(least <= value && value <= largest_setting, step, ": expected ", name, " from ",
                    least, " to ", largest_setting, ", got ", value);
  return value;
}

inline void check(const GridArgument& grid) {
  const auto& [scale, zero_point, lowest, highest] = grid;
  // Written so that NaN is refused.
  TORCH_CHECK_VALUE(0x1p-126 <= scale && scale <= 0x1p126 && 0 <= lowest && lowest <= highest &&
                        highest <= 255 && 0 <= zero_point && zero_point <= 255,
                    "program: expected a grid of levels from 0 to 255, got scale=", scale,
                    ", zero_point=", zero_point, ", lowest=", lowest, ", highest=", highest);
}

inline InputGrid input_grid_of(const GridArgument& grid) {
  check(grid);
  return {static_cast<float>(std::get<0>(grid)), static_cast<int32_t>(std::get<1>(grid))};
}

inline OutputGrid output_grid_of(const GridArgument& grid) {
  check(grid);
  const auto& [scale, zero_point, lowest, highest] = grid;
  return {1.0f / static_cast<float>(scale), static_cast<int32_t>(zero_point),
          static_cast<int32_t>(lowest), static_cast<int32_t>(highest)};
}

// Whether a number and its products with usual ones fit float32; written so that NaN is refused.
inline bool is_float(double number) { return std::abs(number) <= 0x1p126; }

inline float float_of(const char* name, double number) {
  TORCH_CHECK_VALUE(is_float(number), "program: expected a finite ", name, ", got ", number);
  return static_cast<float>(number);
}

inline ChannelNumbers channel_numbers_of(const char* name, const std::vector<double>& numbers,
                                         int64_t channels) {
  const auto count = static_cast<int64_t>(numbers.size());
  TORCH_CHECK_VALUE(count == 1 || count == channels, "program: expected one ", name,
                    " or one for each of ", channels, " channels, got ", count);
  std::vector<float> floats;
  for (const double number : numbers) floats.push_back(float_of(name, number));
  return ChannelNumbers(std::move(floats));
}

// Behind an output of so many channels.
inline OutputFunction function_of(const FunctionArgument& function, int64_t channels) {
  const auto& [activation, slope, factor, offset] = function;
  return {activation_of(activation), float_of("slope", slope),
          channel_numbers_of("factor", factor, channels),
          channel_numbers_of("offset", offset, channels)};
}

// Rows and columns.
inline std::array<int64_t, 2> pair_of(const char* step, const char* name,
                                      const std::vector<int64_t>& values, int64_t least = 1) {
  TORCH_CHECK_VALUE(values.size() == 2, step, ": expected rows and columns as ", name, ", got ",
                    values.size(), " numbers");
  return {setting_of(step, name, values[0], least), setting_of(step, name, values[1], least)};
}

}  // namespace repq_fx

// The integer grids of a tensor, one or one per channel, and the checks of what describes them.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "common/host_device.h"

namespace repq_fx {

struct GridLimits {
  float lo, hi;
};

inline std::string dtype_name(const at::Tensor& tensor) {
  return std::string(c10::getDtypeNames(tensor.scalar_type()).first);
}

// Dtype, shape and device of `tensor` have to be those of `other`.
inline void check_like(const char* op, const char* name, const at::Tensor& tensor,
                       const at::Tensor& other) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == other.scalar_type(), op, ": expected ",
                   dtype_name(other), " ", name, ", got ", dtype_name(tensor));
  TORCH_CHECK_VALUE(tensor.sizes() == other.sizes(), op, ": expected ", name, " of shape ",
                    other.sizes(), ", got ", tensor.sizes());
  TORCH_CHECK_VALUE(tensor.device() == other.device(), op, ": expected ", name, " on ",
                    other.device(), ", got ", tensor.device());
}

// The words here are those of repq_fx/ops/reference/channel_grids.py.
inline GridLimits check_grid(const char* op, const at::Tensor& input, const at::Tensor& scale,
                             const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                             std::optional<int64_t> axis) {
  constexpr int64_t max_level = 1 << 24;  // Every integer up to here is a float32 number.
  TORCH_CHECK_TYPE(scale.scalar_type() == at::kFloat, op, ": expected float32 scale, got ",
                   dtype_name(scale));
  const at::ScalarType zero_type = zero_point.scalar_type();
  TORCH_CHECK_TYPE(zero_type == at::kInt || zero_type == at::kLong || zero_type == at::kFloat, op,
                   ": expected int32, int64 or float32 zero_point, got ", dtype_name(zero_point));
  TORCH_CHECK_VALUE(-max_level <= quant_min && quant_min < quant_max && quant_max <= max_level, op,
                    ": expected ", -max_level, " <= quant_min < quant_max <= ", max_level,
                    ", got quant_min=", quant_min, ", quant_max=", quant_max);
  if (axis) {
    TORCH_CHECK_VALUE(-input.dim() <= *axis && *axis < input.dim(), op,
                      ": expected axis of a tensor with ", input.dim(), " dimensions, got ", *axis);
  }
  const std::array<std::pair<const char*, const at::Tensor&>, 2> parameters{
      {{"scale", scale}, {"zero_point", zero_point}}};
  for (const auto& [name, tensor] : parameters) {
    if (axis) {
      TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.numel() == input.size(*axis), op, ": expected ",
                        name, " of shape [", input.size(*axis), "], got ", tensor.sizes());
    } else {
      TORCH_CHECK_VALUE(tensor.dim() <= 1 && tensor.numel() == 1, op, ": expected ", name,
                        " of shape [] or [1], got ", tensor.sizes());
    }
    TORCH_CHECK_VALUE(tensor.device() == input.device(), op, ": expected ", name, " on ",
                      input.device(), ", got ", tensor.device());
  }
  return {static_cast<float>(quant_min), static_cast<float>(quant_max)};
}

// Only where values can be read without waiting for a device.
inline void check_scale_values(const char* op, const at::Tensor& scale) {
  const at::Tensor scales = scale.contiguous();
  const float* values = scales.const_data_ptr<float>();
  for (int64_t i = 0; i < scales.numel(); ++i) {
    TORCH_CHECK_VALUE(0x1p-126f <= values[i] && values[i] <= 0x1p126f, op,
                      ": expected scale from 2**-126 to 2**126, got ",
                      std::isnan(values[i]) ? std::abs(values[i]) : values[i], " at index ", i);
  }
}

// What kernels read of a channel and of those after it.
struct Grids {
  const float* inverse_scale;
  const float* scale;
  const float* zero;

  REPQ_FX_HOST_DEVICE Grids from(int64_t channel) const {
    return {inverse_scale + channel, scale + channel, zero + channel};
  }
};

REPQ_FX_HOST_DEVICE inline float clamp_level(float level, const GridLimits& limits) {
  // In this form, unlike `fmin` and `fmax`, a NaN fails both comparisons and stays.
  level = level < limits.lo ? limits.lo : level;
  return level > limits.hi ? limits.hi : level;
}

}  // namespace repq_fx

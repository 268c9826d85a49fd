// Argument checks and arithmetic of `fake_quantize`, shared by its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>

#include "common/host_device.h"

namespace repq_fx {

// The words are those of `_check` in repq_fx/ops/fake_quantize.py.
inline void check_fake_quantize(const at::Tensor& input, const at::Tensor& scale,
                                const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                                std::optional<int64_t> axis) {
  constexpr int64_t max_level = 1 << 24;  // Every integer up to here is a float32 number.
  const auto dtype = [](const at::Tensor& t) { return c10::getDtypeNames(t.scalar_type()).first; };
  TORCH_CHECK_TYPE(input.scalar_type() == at::kFloat, "fake_quantize: expected float32 input, got ",
                   dtype(input));
  TORCH_CHECK_TYPE(scale.scalar_type() == at::kFloat, "fake_quantize: expected float32 scale, got ",
                   dtype(scale));
  TORCH_CHECK_TYPE(zero_point.scalar_type() == at::kInt || zero_point.scalar_type() == at::kLong,
                   "fake_quantize: expected int32 or int64 zero_point, got ", dtype(zero_point));
  TORCH_CHECK_VALUE(-max_level <= quant_min && quant_min < quant_max && quant_max <= max_level,
                    "fake_quantize: expected ", -max_level,
                    " <= quant_min < quant_max <= ", max_level, ", got quant_min=", quant_min,
                    ", quant_max=", quant_max);
  if (axis) {
    TORCH_CHECK_VALUE(-input.dim() <= *axis && *axis < input.dim(),
                      "fake_quantize: expected axis of a tensor with ", input.dim(),
                      " dimensions, got ", *axis);
  }
  const std::array<std::pair<const char*, const at::Tensor&>, 2> parameters{
      {{"scale", scale}, {"zero_point", zero_point}}};
  for (const auto& [name, tensor] : parameters) {
    if (axis) {
      TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.numel() == input.size(*axis),
                        "fake_quantize: expected ", name, " of shape [", input.size(*axis),
                        "], got ", tensor.sizes());
    } else {
      TORCH_CHECK_VALUE(tensor.dim() <= 1 && tensor.numel() == 1, "fake_quantize: expected ", name,
                        " of shape [] or [1], got ", tensor.sizes());
    }
    TORCH_CHECK_VALUE(tensor.device() == input.device(), "fake_quantize: expected ", name, " on ",
                      input.device(), ", got ", tensor.device());
  }
}

// Where the values that share a scale lie in the memory of a dense tensor: runs of `run` values,
// run `r` having channel `r % channels`.
struct ChannelLayout {
  int64_t run;
  int64_t channels;
};

inline ChannelLayout channel_layout(const at::Tensor& dense, std::optional<int64_t> axis) {
  // The stride of a dimension of size one says nothing about the memory.
  if (!axis || dense.size(*axis) == 1) return {dense.numel(), 1};
  return {dense.stride(*axis), dense.size(*axis)};
}

struct FakeQuantizeLimits {
  float lo;
  float hi;
};

REPQ_FX_HOST_DEVICE inline float fake_quantize_value(float x, float inverse_scale, float scale,
                                                     float zero, FakeQuantizeLimits limits) {
  float level = ::nearbyintf(x * inverse_scale) + zero;
  // In this form, unlike `fmin` and `fmax`, a NaN fails both comparisons and stays.
  level = level < limits.lo ? limits.lo : level;
  level = level > limits.hi ? limits.hi : level;
  return (level - zero) * scale;
}

}  // namespace repq_fx

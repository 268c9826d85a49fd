// Argument checks and arithmetic of `fake_quantize` and its gradient, shared by their kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "common/grid.h"
#include "common/host_device.h"
#include "common/rounding.h"

namespace repq_fx {

struct FakeQuantizeLimits : GridLimits {
  float keep;     // Share of the values that stay as they are.
  uint64_t seed;  // Of the random numbers.
};

// The words are those of `check` in repq_fx/ops/fake_quantize.py.
inline FakeQuantizeLimits check_fake_quantize(const at::Tensor& input, const at::Tensor& scale,
                                              const at::Tensor& zero_point, int64_t quant_min,
                                              int64_t quant_max, std::optional<int64_t> axis,
                                              int64_t rounding, double keep, int64_t seed) {
  const at::ScalarType type = input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
                   "fake_quantize: expected float32, bfloat16 or float16 input, got ",
                   dtype_name(input));
  const GridLimits limits =
      check_grid("fake_quantize", input, scale, zero_point, quant_min, quant_max, axis);
  const Rounding mode = checked_rounding("fake_quantize", rounding);
  TORCH_CHECK_VALUE(0 <= keep && keep <= 1, "fake_quantize: expected keep from 0 to 1, got ", keep);
  TORCH_CHECK_VALUE(keep == 0 || mode != Rounding::stochastic,
                    "fake_quantize: expected keep=0 with stochastic rounding, got ", keep);
  return {limits, static_cast<float>(keep), static_cast<uint64_t>(seed)};
}

// `word` is read by stochastic rounding, and where values are kept.
template <Rounding rounding, bool keeps>
REPQ_FX_HOST_DEVICE inline float fake_quantize_value(float x, float inverse_scale, float scale,
                                                     float zero, uint32_t word,
                                                     const FakeQuantizeLimits& limits) {
  const float level = clamp_level(rounded<rounding>(x * inverse_scale, word) + zero, limits);
  const float quantized = (level - zero) * scale;
  return keeps && uniform(word) < limits.keep ? x : quantized;
}

struct FakeQuantizeGradient {
  float input;
  float scale;    // The share of one value.
  float outside;  // The gradient of the output where the grid ends, else 0.
};

template <Rounding rounding, bool keeps>
REPQ_FX_HOST_DEVICE inline FakeQuantizeGradient fake_quantize_gradient(
    float grad, float x, float inverse_scale, float zero, uint32_t word,
    const FakeQuantizeLimits& limits) {
  const float scaled = x * inverse_scale;
  const float level = rounded<rounding>(scaled, word) + zero;
  const float steps = clamp_level(level, limits) - zero;
  const bool inside = (level >= limits.lo) & (level <= limits.hi);
  const bool kept = keeps && uniform(word) < limits.keep;
  const float share = grad * (inside ? steps - scaled : steps);
  return {inside | kept ? grad : 0.0f, kept ? 0.0f : share, inside | kept ? 0.0f : grad};
}

}  // namespace repq_fx

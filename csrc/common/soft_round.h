// Argument checks and arithmetic of `soft_round` and its gradient, shared by their kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>

#include "common/grid.h"
#include "common/host_device.h"

namespace repq_fx {

struct SoftRoundSettings : GridLimits {
  bool regularized;
  float exponent;  // beta - 1
  float slope;     // -2 * beta
};

// The words are those of `check` in repq_fx/ops/soft_round.py.
inline SoftRoundSettings check_soft_round(const at::Tensor& weight, const at::Tensor& logits,
                                          const at::Tensor& scale, const at::Tensor& zero_point,
                                          int64_t quant_min, int64_t quant_max,
                                          std::optional<int64_t> axis, std::optional<double> beta) {
  TORCH_CHECK_TYPE(weight.scalar_type() == at::kFloat, "soft_round: expected float32 weight, got ",
                   dtype_name(weight));
  check_like("soft_round", "logits", logits, weight);
  const GridLimits limits =
      check_grid("soft_round", weight, scale, zero_point, quant_min, quant_max, axis);
  TORCH_CHECK_VALUE(!beta || (1 <= *beta && *beta <= 1024),
                    "soft_round: expected beta from 1 to 1024, got ", *beta);
  const double power = beta.value_or(1);
  return {limits, beta.has_value(), static_cast<float>(power - 1), static_cast<float>(-2 * power)};
}

inline void check_soft_round_grads(const at::Tensor& grad, const at::Tensor& grad_regularizer,
                                   const at::Tensor& weight) {
  check_like("soft_round", "grad", grad, weight);
  TORCH_CHECK_TYPE(grad_regularizer.scalar_type() == at::kFloat,
                   "soft_round: expected float32 grad_regularizer, got ",
                   dtype_name(grad_regularizer));
  TORCH_CHECK_VALUE(grad_regularizer.dim() == 0,
                    "soft_round: expected grad_regularizer of shape [], got ",
                    grad_regularizer.sizes());
  TORCH_CHECK_VALUE(grad_regularizer.device() == weight.device(),
                    "soft_round: expected grad_regularizer on ", weight.device(), ", got ",
                    grad_regularizer.device());
}

REPQ_FX_HOST_DEVICE inline int32_t bits_of(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

REPQ_FX_HOST_DEVICE inline float float_of(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The exponential and the logarithm are written out because those of the C libraries, of CUDA and
// of torch differ in the last bit. `_exp2` and `_log2` in repq_fx/ops/soft_round.py are the same.

// 2**y for -126 <= y <= 127: the series of exp on half a binade, then the exponent.
REPQ_FX_HOST_DEVICE inline float exp2_series(float y) {
  constexpr float ln2 = static_cast<float>(0.6931471805599453);
  const float whole = ::nearbyintf(y);
  const float z = (y - whole) * ln2;
  float sum = static_cast<float>(1.0 / 720);
  sum = sum * z + static_cast<float>(1.0 / 120);
  sum = sum * z + static_cast<float>(1.0 / 24);
  sum = sum * z + static_cast<float>(1.0 / 6);
  sum = sum * z + 0.5f;
  sum = sum * z + 1.0f;
  sum = sum * z + 1.0f;
  return sum * float_of((static_cast<int32_t>(whole) + 127) * (1 << 23));
}

// log2(t) for a normal positive t: the series of atanh on the mantissa from sqrt(1/2) to sqrt(2).
REPQ_FX_HOST_DEVICE inline float log2_series(float t) {
  constexpr int32_t sqrt_half = 0x3F3504F3;
  constexpr float factor = static_cast<float>(2 * 1.4426950408889634);
  const int32_t exponent = (bits_of(t) - sqrt_half) >> 23;
  const float mantissa = float_of(bits_of(t) - exponent * (1 << 23));
  const float s = (mantissa - 1.0f) / (mantissa + 1.0f);
  const float square = s * s;
  float sum = static_cast<float>(1.0 / 9);
  sum = sum * square + static_cast<float>(1.0 / 7);
  sum = sum * square + static_cast<float>(1.0 / 5);
  sum = sum * square + static_cast<float>(1.0 / 3);
  sum = sum * square + 1.0f;
  return s * factor * sum + static_cast<float>(exponent);
}

// The rectified sigmoid of a logit.
struct RectifiedSigmoid {
  float sigmoid;
  float stretched;
  float value;  // `stretched` from 0 to 1.
};

REPQ_FX_HOST_DEVICE inline RectifiedSigmoid rectified_sigmoid(float logit) {
  constexpr float log2e = static_cast<float>(1.4426950408889634);
  // Beyond the limits only the stretched sigmoid would change, which is clamped.
  logit = logit < -4.0f ? -4.0f : logit;
  logit = logit > 4.0f ? 4.0f : logit;
  RectifiedSigmoid h;
  h.sigmoid = 1.0f / (1.0f + exp2_series(-logit * log2e));
  h.stretched = h.sigmoid * static_cast<float>(1.1 + 0.1) - 0.1f;
  h.value = h.stretched < 0.0f ? 0.0f : h.stretched;
  h.value = h.value > 1.0f ? 1.0f : h.value;
  return h;
}

// |2h - 1| ** exponent, for an exponent from 0 on.
REPQ_FX_HOST_DEVICE inline float certainty_power(float certainty, float exponent) {
  constexpr float least = 0x1p-126f;
  const float power = log2_series(certainty < least ? least : certainty) * exponent;
  return exp2_series(power < -126.0f ? -126.0f : power);
}

REPQ_FX_HOST_DEVICE inline float soft_level(float weight, float h, float inverse_scale,
                                            float zero) {
  return ::floorf(weight * inverse_scale) + zero + h;
}

struct SoftRounded {
  float value;
  float regularizer;
};

template <bool regularized>
REPQ_FX_HOST_DEVICE inline SoftRounded soft_round_value(float weight, float logit,
                                                        float inverse_scale, float scale,
                                                        float zero,
                                                        const SoftRoundSettings& settings) {
  const float h = rectified_sigmoid(logit).value;
  const float level = clamp_level(soft_level(weight, h, inverse_scale, zero), settings);
  const float value = (level - zero) * scale;
  if constexpr (!regularized) return {value, 0.0f};
  const float certainty = ::fabsf(h + h - 1.0f);
  return {value, 1.0f - certainty_power(certainty, settings.exponent) * certainty};
}

// `regularizer_slope` is `settings.slope` times the gradient of the regularizer.
template <bool regularized>
REPQ_FX_HOST_DEVICE inline float soft_round_gradient(float grad, float weight, float logit,
                                                     float inverse_scale, float scale, float zero,
                                                     float regularizer_slope,
                                                     const SoftRoundSettings& settings) {
  const RectifiedSigmoid h = rectified_sigmoid(logit);
  const float level = soft_level(weight, h.value, inverse_scale, zero);
  float of_h = (level >= settings.lo) & (level <= settings.hi) ? grad * scale : 0.0f;
  if constexpr (regularized) {
    const float centred = h.value + h.value - 1.0f;
    const float power = certainty_power(::fabsf(centred), settings.exponent);
    of_h = of_h + (centred < 0.0f ? -power : power) * regularizer_slope;
  }
  const float slope = h.sigmoid * (1.0f - h.sigmoid) * static_cast<float>(1.1 + 0.1);
  return (h.stretched >= 0.0f) & (h.stretched <= 1.0f) ? of_h * slope : 0.0f;
}

}  // namespace repq_fx

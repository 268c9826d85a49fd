// The rows of `REPQ_FX_ACTIVATIONS`: what each function means. The slope is that of `leaky_relu`.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/int8/activations.h"

namespace repq_fx::portable {

inline float none(float x, float) { return x; }

inline float silu(float x, float) { return x / (1.0f + std::exp(-x)); }

inline float sigmoid(float x, float) { return 1.0f / (1.0f + std::exp(-x)); }

inline float hard_sigmoid(float x, float) { return std::clamp(x + 3.0f, 0.0f, 6.0f) / 6.0f; }

inline float hard_swish(float x, float slope) { return x * hard_sigmoid(x, slope); }

inline float gelu(float x, float) {
  return 0.5f * x * (1.0f + std::erf(x * static_cast<float>(M_SQRT1_2)));
}

inline float gelu_tanh(float x, float) {
  const float inner = x + 0.044715f * x * x * x;
  return x / (1.0f + std::exp(inner * static_cast<float>(-2 * M_2_SQRTPI * M_SQRT1_2)));
}

inline float leaky_relu(float x, float slope) { return x < 0 ? x * slope : x; }

template <Activation activation>
float activate(float x, float slope) {
#define REPQ_FX_CASE(name) \
  if constexpr (activation == Activation::name) return name(x, slope);
  REPQ_FX_ACTIVATIONS(REPQ_FX_CASE)
#undef REPQ_FX_CASE
}

}  // namespace repq_fx::portable

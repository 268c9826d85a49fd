// Argument checks and arithmetic of `quantize`, shared by its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>

#include "common/host_device.h"
#include "common/rounding.h"

namespace repq_fx {

struct QuantizeGrid {
  float inverse_scale;
  float zero;
  float lo;
  float hi;
};

// The words are those of repq_fx/ops/quantize.py.
inline QuantizeGrid quantize_grid(const at::Tensor& input, double scale, int64_t zero_point,
                                  int64_t quant_min, int64_t quant_max) {
  TORCH_CHECK_TYPE(input.scalar_type() == at::kFloat, "quantize: expected float32 input, got ",
                   c10::getDtypeNames(input.scalar_type()).first);
  TORCH_CHECK_VALUE(0x1p-126 <= scale && scale <= 0x1p126,
                    "quantize: expected scale from 2**-126 to 2**126, got ", scale);
  TORCH_CHECK_VALUE(quant_min < quant_max && ((0 <= quant_min && quant_max <= 255) ||
                                              (-128 <= quant_min && quant_max <= 127)),
                    "quantize: expected quant_min < quant_max, both in 0..255 or both in "
                    "-128..127, got quant_min=",
                    quant_min, ", quant_max=", quant_max);
  TORCH_CHECK_VALUE(quant_min <= zero_point && zero_point <= quant_max,
                    "quantize: expected zero_point from ", quant_min, " to ", quant_max, ", got ",
                    zero_point);
  return {1.0f / static_cast<float>(scale), static_cast<float>(zero_point),
          static_cast<float>(quant_min), static_cast<float>(quant_max)};
}

inline at::ScalarType quantize_dtype(int64_t quant_min) {
  return quant_min >= 0 ? at::kByte : at::kChar;
}

// The low byte of the level of `x`, which is its uint8 or its int8 code: one loop serves both
// types. `word` is read by stochastic rounding.
template <Rounding rounding>
REPQ_FX_HOST_DEVICE inline uint8_t quantize_value(float x, uint32_t word,
                                                  const QuantizeGrid& grid) {
  float level = rounded<rounding>(x * grid.inverse_scale, word) + grid.zero;
  // In this form a NaN fails the first comparison and becomes `lo`.
  level = level > grid.lo ? level : grid.lo;
  level = level < grid.hi ? level : grid.hi;
  return static_cast<uint8_t>(static_cast<int32_t>(level));
}

}  // namespace repq_fx

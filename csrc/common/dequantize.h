// Argument checks and arithmetic of `dequantize`, shared by its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "common/grid.h"
#include "common/host_device.h"

namespace repq_fx {

struct DequantizeGrid {
  float scale, zero;
};

// The words are those of `_check` in repq_fx/ops/dequantize.py.
inline DequantizeGrid dequantize_grid(const at::Tensor& input, double scale, int64_t zero_point) {
  const at::ScalarType type = input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kByte || type == at::kChar,
                   "dequantize: expected uint8 or int8 input, got ", dtype_name(input));
  TORCH_CHECK_VALUE(0x1p-126 <= scale && scale <= 0x1p126,
                    "dequantize: expected scale from 2**-126 to 2**126, got ", scale);
  const int64_t lowest = type == at::kByte ? 0 : -128;
  TORCH_CHECK_VALUE(lowest <= zero_point && zero_point <= lowest + 255,
                    "dequantize: expected zero_point from ", lowest, " to ", lowest + 255, ", got ",
                    zero_point);
  return {static_cast<float>(scale), static_cast<float>(zero_point)};
}

template <typename T>
REPQ_FX_HOST_DEVICE float dequantize_value(T level, const DequantizeGrid& grid) {
  return (static_cast<float>(level) - grid.zero) * grid.scale;
}

}  // namespace repq_fx

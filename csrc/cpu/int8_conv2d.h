// What the INT8 convolutions share: geometry, argument checks, and the way out of a kernel.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <optional>

#include "common/quantize.h"

namespace repq_fx {

constexpr int64_t block_channels = 16;  // Output channels of one vector of sums.
constexpr int64_t quad_size = 4;        // Products that one INT8 instruction sums.

inline int64_t ceil_divide(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

struct ConvGeometry {
  std::array<int64_t, 2> kernel, stride, padding, dilation;

  ConvGeometry(const at::Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding,
               at::IntArrayRef dilation)
      : kernel{weight.size(2), weight.size(3)},
        stride{stride[0], stride[1]},
        padding{padding[0], padding[1]},
        dilation{dilation[0], dilation[1]} {}

  // Where the kernel's centre meets the input for output position 0.
  int64_t centre(int axis) const { return dilation[axis] * (kernel[axis] / 2) - padding[axis]; }

  int64_t output_size(int64_t input_size, int axis) const {
    const int64_t extent = dilation[axis] * (kernel[axis] - 1) + 1;
    return (input_size + 2 * padding[axis] - extent) / stride[axis] + 1;
  }
};

// Float32 sums, or their codes on a grid; whichever pointer is set is written.
struct Output {
  float* values = nullptr;
  uint8_t* codes = nullptr;
  QuantizeGrid grid{};

  Output() = default;
  Output(at::Tensor& tensor, const std::optional<QuantizeGrid>& codes_grid) {
    if (codes_grid) {
      codes = tensor.mutable_data_ptr<uint8_t>();
      grid = *codes_grid;
    } else {
      values = tensor.mutable_data_ptr<float>();
    }
  }

  Output at(int64_t offset) const {
    Output moved = *this;
    (codes != nullptr ? static_cast<void>(moved.codes += offset)
                      : static_cast<void>(moved.values += offset));
    return moved;
  }
};

// The words are those of `check_per_channel` and `check_input` in repq_fx/ops/int8_conv2d.py.
inline void check_input(const char* op, const at::Tensor& input, int64_t zero_point) {
  TORCH_CHECK_TYPE(input.scalar_type() == at::kByte, op, ": expected uint8 input, got ",
                   c10::getDtypeNames(input.scalar_type()).first);
  TORCH_CHECK_VALUE(input.dim() == 4, op, ": expected 4 dimensions of input, got ", input.dim());
  TORCH_CHECK_VALUE(0 <= zero_point && zero_point <= 255, op,
                    ": expected input_zero_point from 0 to 255, got ", zero_point);
}

inline void check_per_channel(const char* op, const char* name, const at::Tensor& tensor,
                              int64_t channels) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, op, ": expected float32 ", name, ", got ",
                   c10::getDtypeNames(tensor.scalar_type()).first);
  TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.numel() == channels, op, ": expected ", name,
                    " of shape [", channels, "], got ", tensor.sizes());
}

}  // namespace repq_fx

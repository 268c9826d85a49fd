// Argument checks and arithmetic of `update_histogram`, shared by its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/host_device.h"

namespace repq_fx {

// Between these, a bin width and its reciprocal are normal float32 numbers.
constexpr int smallest_exponent = -126;
constexpr int largest_exponent = 126;

// The words are those of `_check` in repq_fx/ops/update_histogram.py.
inline void check_update_histogram(const at::Tensor& counts, const at::Tensor& exponents,
                                   const at::Tensor& zeros, const at::Tensor& input,
                                   std::optional<int64_t> axis) {
  constexpr int64_t min_bins = 8;        // With fewer, a width could exceed `largest_exponent`.
  constexpr int64_t max_bins = 1 << 24;  // Bin indices fit float32.
  struct Argument {
    const char* name;
    const at::Tensor& tensor;
  };
  const auto dtype = [](const at::Tensor& t) { return c10::getDtypeNames(t.scalar_type()).first; };
  const at::ScalarType type = input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
                   "update_histogram: expected float32, bfloat16 or float16 input, got ",
                   dtype(input));
  for (const auto& [name, tensor] :
       {Argument{"counts", counts}, {"exponents", exponents}, {"zeros", zeros}}) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == at::kLong, "update_histogram: expected int64 ", name,
                     ", got ", dtype(tensor));
    TORCH_CHECK_VALUE(tensor.device() == input.device(), "update_histogram: expected ", name,
                      " on ", input.device(), ", got ", tensor.device());
    TORCH_CHECK_VALUE(tensor.is_contiguous(), "update_histogram: expected contiguous ", name,
                      ", got strides ", tensor.strides());
  }
  std::vector<int64_t> rows;
  if (axis) {
    TORCH_CHECK_VALUE(-input.dim() <= *axis && *axis < input.dim(),
                      "update_histogram: expected axis of a tensor with ", input.dim(),
                      " dimensions, got ", *axis);
    rows.push_back(input.size(*axis));
  }
  const int64_t bins = counts.dim() > 0 ? counts.size(-1) : 0;
  TORCH_CHECK_VALUE(min_bins <= bins && bins <= max_bins && (bins & (bins - 1)) == 0,
                    "update_histogram: expected a power of two from ", min_bins, " to ", max_bins,
                    " bins, got counts of shape ", counts.sizes());
  const auto check_shape = [](const char* name, const at::Tensor& tensor,
                              const std::vector<int64_t>& shape) {
    TORCH_CHECK_VALUE(tensor.sizes() == shape, "update_histogram: expected ", name, " of shape ",
                      at::IntArrayRef(shape), ", got ", tensor.sizes());
  };
  std::vector<int64_t> counts_shape = rows;
  counts_shape.push_back(bins);
  check_shape("counts", counts, counts_shape);
  check_shape("exponents", exponents, rows);
  check_shape("zeros", zeros, rows);
}

// The values of the state, which only the CPU can see without waiting for a device.
inline void check_exponent(int64_t exponent) {
  TORCH_CHECK_VALUE(smallest_exponent <= exponent && exponent <= largest_exponent,
                    "update_histogram: expected exponents from ", smallest_exponent, " to ",
                    largest_exponent, ", got ", exponent);
}

inline void check_total(bool fits) {
  TORCH_CHECK_VALUE(fits,
                    "update_histogram: expected counts that stay below 2**63 in sum, "
                    "but the values of input exceed that");
}

// Where the values of a row lie in the memory of a dense tensor: runs of `run` values, run `r` of
// row `r % rows`. A row has `size` values.
struct RowLayout {
  int64_t rows;
  int64_t run;
  int64_t size;
};

inline RowLayout row_layout(const at::Tensor& dense, std::optional<int64_t> axis) {
  const int64_t rows = axis ? dense.size(*axis) : 1;
  if (dense.numel() == 0) return {rows, 1, 0};
  // The stride of a dimension of size one says nothing about the memory.
  const int64_t run = rows == 1 ? dense.numel() : dense.stride(*axis);
  return {rows, run, dense.numel() / rows};
}

// Bins `[i * 2**exponent, (i + 1) * 2**exponent)` for `-side <= i < side`.
struct PowerOfTwoBins {
  int side;
  int exponent;

  // The bin of `x`, which is inside the span.
  REPQ_FX_HOST_DEVICE int bin(float x) const {
    // In double, where nothing underflows.
    return static_cast<int>(::floor(::ldexp(static_cast<double>(x), -exponent)));
  }

  REPQ_FX_HOST_DEVICE float inverse_width() const { return ::ldexpf(1.0f, -exponent); }

  // The end of the last bin; infinite beyond float32.
  REPQ_FX_HOST_DEVICE float span() const { return ::ldexpf(static_cast<float>(side), exponent); }
};

// The least exponent for which the bins hold `magnitude`, which is finite.
REPQ_FX_HOST_DEVICE inline int exponent_for(float magnitude, int side) {
  if (magnitude == 0) return smallest_exponent;
  int exponent;
  ::frexpf(magnitude, &exponent);
  // 2**exponent is above `magnitude`, and has to be at most `side` widths.
  while (side > 1) {
    side >>= 1;
    --exponent;
  }
  return exponent > smallest_exponent ? exponent : smallest_exponent;
}

}  // namespace repq_fx

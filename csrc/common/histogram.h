// Argument checks and bin arithmetic of `histogram`, shared by its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace repq_fx {

struct HistogramGrid {
  float inverse_width;
  // -lo / width as a whole and a fractional number of bins: adding the whole part after `floor`
  // keeps the sum from rounding across an edge.
  float whole;
  float frac;
  int32_t bins;
};

// The words are those of `_check` in repq_fx/ops/histogram.py.
inline HistogramGrid histogram_grid(const at::Tensor& input, int64_t bins, double lo, double hi) {
  constexpr int64_t max_bins = 1 << 24;  // Every integer up to here is a float32 number.
  TORCH_CHECK_TYPE(input.scalar_type() == at::kFloat, "histogram: expected float32 input, got ",
                   c10::getDtypeNames(input.scalar_type()).first);
  TORCH_CHECK_VALUE(1 <= bins && bins <= max_bins, "histogram: expected bins from 1 to ", max_bins,
                    ", got ", bins);
  TORCH_CHECK_VALUE(std::isfinite(lo) && std::isfinite(hi) && lo < hi,
                    "histogram: expected finite lo < hi, got lo=", lo, ", hi=", hi);
  const double width = (hi - lo) / static_cast<double>(bins);
  TORCH_CHECK_VALUE(0x1p-126 <= width && width <= 0x1p126,
                    "histogram: expected a bin width from 2**-126 to 2**126, got ", width,
                    " (lo=", lo, ", hi=", hi, ", bins=", bins, ")");
  const double offset = -lo / width;
  const double whole = std::floor(offset);
  return {static_cast<float>(1 / width), static_cast<float>(whole),
          static_cast<float>(offset - whole), static_cast<int32_t>(bins)};
}

// The bin of `x`, or `grid.bins` for a NaN. Selects between values already computed, without a
// branch, so that compilers vectorize it.
REPQ_FX_HOST_DEVICE inline int32_t histogram_bin(float x, const HistogramGrid& grid) {
  const float product = x * grid.inverse_width;
  // A negative value must not underflow to zero, which lies in the bin above.
  const float negative = product < -FLT_MIN ? product : -FLT_MIN;
  const float scaled = x < 0 ? negative : product;
  const float bin = ::floorf(scaled + grid.frac) + grid.whole;
  // Clamped before the conversion, which is undefined for what an integer cannot hold.
  const float last = static_cast<float>(grid.bins - 1);
  const float above = bin > 0 ? bin : 0;
  const float inside = above < last ? above : last;
  const float counted = x == x ? inside : static_cast<float>(grid.bins);
  return static_cast<int32_t>(counted);
}

}  // namespace repq_fx

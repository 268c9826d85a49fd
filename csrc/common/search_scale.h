// Argument checks and arithmetic of `search_scale`, shared by its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <optional>

#include "common/host_device.h"
#include "common/power.h"

namespace repq_fx {

constexpr int candidate_count = 80;

struct ScaleSearch {
  float lo;
  float hi;
  double power;
};

// The words are those of `_check` in repq_fx/ops/search_scale.py.
inline ScaleSearch scale_search(const at::Tensor& rows, const at::Tensor& widest, int64_t quant_min,
                                int64_t quant_max, double power,
                                const std::optional<at::Tensor>& importance) {
  constexpr int64_t max_level = 1 << 24;  // Every integer up to here is a float32 number.
  const auto dtype = [](const at::Tensor& t) { return c10::getDtypeNames(t.scalar_type()).first; };
  TORCH_CHECK_TYPE(rows.scalar_type() == at::kFloat, "search_scale: expected float32 rows, got ",
                   dtype(rows));
  TORCH_CHECK_TYPE(widest.scalar_type() == at::kFloat,
                   "search_scale: expected float32 widest, got ", dtype(widest));
  TORCH_CHECK_TYPE(!importance || importance->scalar_type() == at::kDouble,
                   "search_scale: expected float64 importance, got ", dtype(*importance));
  TORCH_CHECK_VALUE(rows.dim() == 2, "search_scale: expected rows of 2 dimensions, got ",
                    rows.dim());
  TORCH_CHECK_VALUE(widest.dim() == 1 && widest.size(0) == rows.size(0),
                    "search_scale: expected widest of shape [", rows.size(0), "], got ",
                    widest.sizes());
  TORCH_CHECK_VALUE(!importance || importance->sizes() == rows.sizes(),
                    "search_scale: expected importance of shape ", rows.sizes(), ", got ",
                    importance->sizes());
  TORCH_CHECK_VALUE(widest.device() == rows.device(), "search_scale: expected widest on ",
                    rows.device(), ", got ", widest.device());
  TORCH_CHECK_VALUE(!importance || importance->device() == rows.device(),
                    "search_scale: expected importance on ", rows.device(), ", got ",
                    importance->device());
  TORCH_CHECK_VALUE(-max_level <= quant_min && quant_min < quant_max && quant_max <= max_level,
                    "search_scale: expected ", -max_level,
                    " <= quant_min < quant_max <= ", max_level, ", got quant_min=", quant_min,
                    ", quant_max=", quant_max);
  TORCH_CHECK_VALUE(0 < power && power <= 16, "search_scale: expected 0 < power <= 16, got ",
                    power);
  return {static_cast<float>(quant_min), static_cast<float>(quant_max), power};
}

// The tensor itself if the values of each row are adjacent, which the kernels rely on. The rows may
// lie anywhere: the importance of a layer without groups is one row, expanded.
inline at::Tensor with_adjacent_columns(const at::Tensor& rows) {
  return rows.size(1) <= 1 || rows.stride(1) == 1 ? rows : rows.contiguous();
}

REPQ_FX_HOST_DEVICE inline float candidate_scale(float widest, int step) {
  return widest * static_cast<float>(1.0 - 0.01 * step);
}

// The powers of an error, each a type so that the loops around it are compiled for it alone.
struct AbsolutePower {
  REPQ_FX_HOST_DEVICE double operator()(double error, double) const { return std::fabs(error); }
};
struct SquarePower {
  REPQ_FX_HOST_DEVICE double operator()(double error, double) const { return error * error; }
};
struct AnyPower {
  REPQ_FX_HOST_DEVICE double operator()(double error, double exponent) const {
    return power(std::fabs(error), exponent);
  }
};

// What `x` adds to the loss of a scale. A zero adds nothing, so that rows may be padded with zeros.
template <class Power>
REPQ_FX_HOST_DEVICE inline double rounding_loss(float x, double importance, float inverse_scale,
                                                float scale, const ScaleSearch& search) {
  float level = ::nearbyintf(x * inverse_scale);
  level = level < search.lo ? search.lo : level;
  level = level > search.hi ? search.hi : level;
  return Power()(static_cast<double>(level * scale - x), search.power) * importance;
}

}  // namespace repq_fx

// The kernels of operators on the CPU; what they compute is told in repq_fx/ops/.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

namespace repq_fx {

at::Tensor dequantize_cpu(const at::Tensor& input, double scale, int64_t zero_point);

at::Tensor fake_quantize_cpu(const at::Tensor& input, const at::Tensor& scale,
                             const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                             std::optional<int64_t> axis, int64_t rounding, double keep,
                             int64_t seed);

std::tuple<at::Tensor, at::Tensor, at::Tensor> fake_quantize_backward_cpu(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& scale,
    const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max, std::optional<int64_t> axis,
    int64_t rounding, double keep, int64_t seed);

at::Tensor histogram_cpu(const at::Tensor& input, int64_t bins, double lo, double hi);

at::Tensor kl_divergences_cpu(const at::Tensor& counts, const at::Tensor& kept, int64_t levels,
                              std::string_view divergence, std::string_view expand,
                              std::string_view remainder);

at::Tensor quantize_cpu(const at::Tensor& input, double scale, int64_t zero_point,
                        int64_t quant_min, int64_t quant_max, int64_t rounding, int64_t seed);

at::Tensor range_losses_cpu(const at::Tensor& counts, const at::Tensor& scales,
                            const at::Tensor& zero_points, int64_t quant_min, int64_t quant_max,
                            std::optional<double> power);

at::Tensor search_scale_cpu(const at::Tensor& rows, const at::Tensor& widest, int64_t quant_min,
                            int64_t quant_max, double power,
                            const std::optional<at::Tensor>& importance);

std::tuple<at::Tensor, at::Tensor> soft_round_cpu(const at::Tensor& weight,
                                                  const at::Tensor& logits, const at::Tensor& scale,
                                                  const at::Tensor& zero_point, int64_t quant_min,
                                                  int64_t quant_max, std::optional<int64_t> axis,
                                                  std::optional<double> beta);

at::Tensor soft_round_backward_cpu(const at::Tensor& grad, const at::Tensor& grad_regularizer,
                                   const at::Tensor& weight, const at::Tensor& logits,
                                   const at::Tensor& scale, const at::Tensor& zero_point,
                                   int64_t quant_min, int64_t quant_max,
                                   std::optional<int64_t> axis, std::optional<double> beta);

std::tuple<at::Tensor, at::Tensor, at::Tensor> update_histogram_cpu(
    at::Tensor& counts, at::Tensor& exponents, at::Tensor& zeros, const at::Tensor& input,
    std::optional<int64_t> axis, bool relu);

}  // namespace repq_fx

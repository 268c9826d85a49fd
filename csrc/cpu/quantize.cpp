#include "cpu/quantize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "common/dense.h"
#include "cpu/simd_clones.h"

namespace repq_fx {

REPQ_FX_SIMD_CLONES
void quantize_values(const float* values, uint8_t* codes, int64_t size, QuantizeGrid grid) {
  for (int64_t i = 0; i < size; ++i) codes[i] = quantize_value(values[i], grid);
}

namespace {

constexpr int64_t grain_size = 1 << 15;  // Values that pay for waking a thread.

at::Tensor quantize_cpu(const at::Tensor& input, double scale, int64_t zero_point,
                        int64_t quant_min, int64_t quant_max) {
  const QuantizeGrid grid = quantize_grid(input, scale, zero_point, quant_min, quant_max);
  const at::Tensor x = dense(input);
  const at::Tensor output = at::empty_like(x, quantize_dtype(quant_min));
  const float* values = x.const_data_ptr<float>();
  auto* codes = static_cast<uint8_t*>(output.mutable_data_ptr());
  at::parallel_for(0, x.numel(), grain_size, [&](int64_t begin, int64_t end) {
    quantize_values(values + begin, codes + begin, end - begin, grid);
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CPU, m) { m.impl("quantize", &quantize_cpu); }

}  // namespace repq_fx

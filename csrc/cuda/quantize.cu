#include <ATen/ATen.h>
#include <torch/library.h>

#include "common/quantize.h"
#include "common/tensors.h"
#include "cuda/launch.h"
#include "cuda/vector.h"
#include "cuda/with_rounding.h"

namespace repq_fx {
namespace {

template <Rounding rounding>
__global__ void quantize_kernel(const float* values, uint8_t* codes, int64_t size,
                                QuantizeGrid grid, uint64_t seed, bool aligned) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x * vector_size;
  int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * vector_size;
  for (; i < size; i += stride) {
    const Vector<float> x = load(values + i, size - i, aligned);
    Vector<uint8_t> y;
    uint32_t words[words_per_counter] = {};
    if constexpr (rounding == Rounding::stochastic) philox(seed, i / words_per_counter, words);
    for (int j = 0; j < vector_size; ++j) {
      y.values[j] = quantize_value<rounding>(x.values[j], words[j], grid);
    }
    store(y, size - i, aligned, codes + i);
  }
}

at::Tensor quantize_cuda(const at::Tensor& input, double scale, int64_t zero_point,
                         int64_t quant_min, int64_t quant_max, int64_t rounding, int64_t seed) {
  const QuantizeGrid grid = quantize_grid(input, scale, zero_point, quant_min, quant_max);
  const Rounding mode = checked_rounding("quantize", rounding);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const at::Tensor output = at::empty_like(x, quantize_dtype(quant_min));
  if (x.numel() == 0) return output;
  const float* values = x.const_data_ptr<float>();
  auto* codes = static_cast<uint8_t*>(output.mutable_data_ptr());
  const bool aligned = is_vector_aligned(values) && is_vector_aligned(codes);
  with_rounding(mode, [&](auto fixed) {
    quantize_kernel<decltype(fixed)::value>
        <<<block_count((x.numel() + vector_size - 1) / vector_size), threads_per_block, 0,
           at::cuda::getCurrentCUDAStream()>>>(values, codes, x.numel(), grid,
                                               static_cast<uint64_t>(seed), aligned);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("quantize", &quantize_cuda); }

}  // namespace repq_fx

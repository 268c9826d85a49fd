#include <ATen/ATen.h>
#include <torch/library.h>

#include "common/dense.h"
#include "common/quantize.h"
#include "cuda/launch.h"

namespace repq_fx {
namespace {

__global__ void quantize_kernel(const float* values, uint8_t* codes, int64_t size,
                                QuantizeGrid grid) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    codes[i] = quantize_value(values[i], grid);
  }
}

at::Tensor quantize_cuda(const at::Tensor& input, double scale, int64_t zero_point,
                         int64_t quant_min, int64_t quant_max) {
  const QuantizeGrid grid = quantize_grid(input, scale, zero_point, quant_min, quant_max);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const at::Tensor output = at::empty_like(x, quantize_dtype(quant_min));
  if (x.numel() == 0) return output;
  quantize_kernel<<<block_count(x.numel()), threads_per_block, 0,
                    at::cuda::getCurrentCUDAStream()>>>(
      x.const_data_ptr<float>(), static_cast<uint8_t*>(output.mutable_data_ptr()), x.numel(), grid);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("quantize", &quantize_cuda); }

}  // namespace repq_fx

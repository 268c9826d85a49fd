#include <ATen/ATen.h>
#include <torch/library.h>

#include "common/dequantize.h"
#include "common/tensors.h"
#include "cuda/launch.h"
#include "cuda/vector.h"

namespace repq_fx {
namespace {

template <typename T>
__global__ void dequantize_kernel(const T* levels, float* values, int64_t size, DequantizeGrid grid,
                                  bool aligned) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x * vector_size;
  int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * vector_size;
  for (; i < size; i += stride) {
    const Vector<T> read = load(levels + i, size - i, aligned);
    Vector<float> written;
    for (int j = 0; j < vector_size; ++j) {
      written.values[j] = dequantize_value(read.values[j], grid);
    }
    store(written, size - i, aligned, values + i);
  }
}

template <typename T>
void dequantize_all(const at::Tensor& input, const at::Tensor& output, const DequantizeGrid& grid) {
  const T* levels = input.const_data_ptr<T>();
  float* values = output.mutable_data_ptr<float>();
  const bool aligned = is_vector_aligned(levels) && is_vector_aligned(values);
  dequantize_kernel<<<block_count((input.numel() + vector_size - 1) / vector_size),
                      threads_per_block, 0, at::cuda::getCurrentCUDAStream()>>>(
      levels, values, input.numel(), grid, aligned);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

at::Tensor dequantize_cuda(const at::Tensor& input, double scale, int64_t zero_point) {
  const DequantizeGrid grid = dequantize_grid(input, scale, zero_point);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor levels = dense(input);
  const at::Tensor output = at::empty_like(levels, at::kFloat);
  if (levels.numel() == 0) return output;
  const bool is_unsigned = levels.scalar_type() == at::kByte;
  is_unsigned ? dequantize_all<uint8_t>(levels, output, grid)
              : dequantize_all<int8_t>(levels, output, grid);
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("dequantize", &dequantize_cuda); }

}  // namespace repq_fx

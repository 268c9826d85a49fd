#include <ATen/ATen.h>
#include <torch/library.h>

#include "common/histogram.h"
#include "common/tensors.h"
#include "cuda/launch.h"

namespace repq_fx {
namespace {

using Count = unsigned long long;  // The 64-bit type that `atomicAdd` takes.

constexpr int64_t max_shared_bytes = 48 << 10;  // What every architecture grants without opt-in.

// Every block counts in its shared memory first, so that blocks do not queue for the zeros of a
// ReLU. 32 bits suffice: the blocks of a full device share the values that fit its memory.
__global__ void shared_histogram_kernel(const float* values, int64_t size, HistogramGrid grid,
                                        Count* counts) {
  extern __shared__ unsigned int block_counts[];
  for (int bin = threadIdx.x; bin < grid.bins; bin += blockDim.x) block_counts[bin] = 0;
  __syncthreads();
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    const int bin = histogram_bin(values[i], grid);
    if (bin < grid.bins) atomicAdd(block_counts + bin, 1u);
  }
  __syncthreads();
  for (int bin = threadIdx.x; bin < grid.bins; bin += blockDim.x) {
    if (block_counts[bin] > 0) atomicAdd(counts + bin, Count{block_counts[bin]});
  }
}

// For more bins than fit in shared memory.
__global__ void global_histogram_kernel(const float* values, int64_t size, HistogramGrid grid,
                                        Count* counts) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    const int bin = histogram_bin(values[i], grid);
    if (bin < grid.bins) atomicAdd(counts + bin, Count{1});
  }
}

at::Tensor histogram_cuda(const at::Tensor& input, int64_t bins, double lo, double hi) {
  const HistogramGrid grid = histogram_grid(input, bins, lo, hi);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const at::Tensor counts = at::zeros({bins}, x.options().dtype(at::kLong));
  if (x.numel() == 0) return counts;
  const int64_t block_bytes = bins * static_cast<int64_t>(sizeof(unsigned int));
  const bool fits = block_bytes <= max_shared_bytes;
  const auto kernel = fits ? shared_histogram_kernel : global_histogram_kernel;
  kernel<<<block_count(x.numel()), threads_per_block, fits ? block_bytes : 0,
           at::cuda::getCurrentCUDAStream()>>>(
      x.const_data_ptr<float>(), x.numel(), grid,
      reinterpret_cast<Count*>(counts.mutable_data_ptr<int64_t>()));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return counts;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("histogram", &histogram_cuda); }

}  // namespace repq_fx

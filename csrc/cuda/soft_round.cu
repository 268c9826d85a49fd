#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "common/blocks.h"
#include "common/soft_round.h"
#include "common/tensors.h"
#include "cuda/channel_grids.h"
#include "cuda/launch.h"
#include "cuda/tree_sum.h"

namespace repq_fx {
namespace {

// A thread block takes one block of `blocks` after another and leaves the sums of the regularizer
// in a row of `sums`; a thread takes a lane, from the first row to the last.
template <bool regularized>
__global__ void soft_round_kernel(const float* weights, const float* logits, float* result,
                                  Blocks blocks, Grids grids, SoftRoundSettings settings,
                                  double* sums) {
  __shared__ double lanes[min_lanes];
  const bool repeats = blocks.lanes > blocks.width;
  for (int64_t block = blockIdx.x; block < blocks.count; block += gridDim.x) {
    const int64_t begin = blocks.begin(block), end = blocks.end(block);
    double* const row = sums + blocks.sum_index(block);
    for (int64_t lane = threadIdx.x; lane < blocks.lanes; lane += blockDim.x) {
      const int64_t c = blocks.width > 1 ? lane % blocks.width : blocks.channel(block);
      double sum = 0;
#pragma unroll 4
      for (int64_t i = begin + lane; i < end; i += blocks.lanes) {
        const SoftRounded rounded = soft_round_value<regularized>(
            weights[i], logits[i], grids.inverse_scale[c], grids.scale[c], grids.zero[c], settings);
        result[i] = rounded.value;
        sum += rounded.regularizer;
      }
      (repeats ? lanes : row)[lane] = sum;
    }
    if (!repeats) continue;
    __syncthreads();
    tree_sum_together(lanes, blocks.lanes / blocks.width, blocks.width, blocks.width);
    for (int64_t c = threadIdx.x; c < blocks.width; c += blockDim.x) row[c] = lanes[c];
    __syncthreads();
  }
}

// A thread block takes a channel.
__global__ void sum_rows_kernel(double* sums, int64_t rows, int64_t channels) {
  tree_sum_together(sums + blockIdx.x, rows, 1, channels);
}

__global__ void sum_channels_kernel(double* sums, int64_t channels, float* result) {
  tree_sum_together(sums, channels, 1, 1);
  if (threadIdx.x == 0) *result = static_cast<float>(*sums);
}

std::tuple<at::Tensor, at::Tensor> soft_round_cuda(const at::Tensor& weight,
                                                   const at::Tensor& logits,
                                                   const at::Tensor& scale,
                                                   const at::Tensor& zero_point, int64_t quant_min,
                                                   int64_t quant_max, std::optional<int64_t> axis,
                                                   std::optional<double> beta) {
  const SoftRoundSettings settings =
      check_soft_round(weight, logits, scale, zero_point, quant_min, quant_max, axis, beta);
  const c10::cuda::CUDAGuard guard(weight.device());
  const at::Tensor w = dense(weight), v = dense_like(logits, w);
  const at::Tensor values = at::empty_like(w), regularizer = at::zeros({}, w.options());
  if (w.numel() == 0) return {values, regularizer};

  const Blocks blocks = channel_blocks(w, axis);
  const ChannelGrids grids(scale, zero_point);
  const at::Tensor sums =
      at::empty({blocks.rows() * blocks.channels}, w.options().dtype(at::kDouble));
  auto* const partial = sums.mutable_data_ptr<double>();
  const auto stream = at::cuda::getCurrentCUDAStream();
  const auto threads = static_cast<int>(std::min<int64_t>(blocks.lanes, threads_per_block));
  const auto kernel = settings.regularized ? soft_round_kernel<true> : soft_round_kernel<false>;
  kernel<<<grid_size(blocks), threads, 0, stream>>>(
      w.const_data_ptr<float>(), v.const_data_ptr<float>(), values.mutable_data_ptr<float>(),
      blocks, grids.pointers(), settings, partial);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  if (!settings.regularized) return {values, regularizer};
  sum_rows_kernel<<<static_cast<int>(blocks.channels), threads_per_block, 0, stream>>>(
      partial, blocks.rows(), blocks.channels);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  sum_channels_kernel<<<1, threads_per_block, 0, stream>>>(partial, blocks.channels,
                                                           regularizer.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {values, regularizer};
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("soft_round", &soft_round_cuda); }

}  // namespace repq_fx

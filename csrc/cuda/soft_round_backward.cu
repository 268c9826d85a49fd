#include <ATen/ATen.h>
#include <torch/library.h>

#include "common/channel_runs.h"
#include "common/soft_round.h"
#include "common/tensors.h"
#include "cuda/channel_grids.h"
#include "cuda/launch.h"

namespace repq_fx {
namespace {

template <bool regularized>
__global__ void soft_round_backward_kernel(const float* grads, const float* grad_regularizer,
                                           const float* weights, const float* logits, float* result,
                                           int64_t size, Grids grids, ChannelRuns runs,
                                           SoftRoundSettings settings) {
  const float regularizer_slope = *grad_regularizer * settings.slope;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    const int64_t c = runs.channels == 1 ? 0 : i / runs.run % runs.channels;
    result[i] = soft_round_gradient<regularized>(grads[i], weights[i], logits[i],
                                                 grids.inverse_scale[c], grids.scale[c],
                                                 grids.zero[c], regularizer_slope, settings);
  }
}

at::Tensor soft_round_backward_cuda(const at::Tensor& grad, const at::Tensor& grad_regularizer,
                                    const at::Tensor& weight, const at::Tensor& logits,
                                    const at::Tensor& scale, const at::Tensor& zero_point,
                                    int64_t quant_min, int64_t quant_max,
                                    std::optional<int64_t> axis, std::optional<double> beta) {
  const SoftRoundSettings settings =
      check_soft_round(weight, logits, scale, zero_point, quant_min, quant_max, axis, beta);
  check_soft_round_grads(grad, grad_regularizer, weight);
  const c10::cuda::CUDAGuard guard(weight.device());
  const at::Tensor w = dense(weight), v = dense_like(logits, w), g = dense_like(grad, w);
  const at::Tensor result = at::empty_like(w);
  if (w.numel() == 0) return result;

  const ChannelGrids grids(scale, zero_point);
  const auto kernel =
      settings.regularized ? soft_round_backward_kernel<true> : soft_round_backward_kernel<false>;
  kernel<<<block_count(w.numel()), threads_per_block, 0, at::cuda::getCurrentCUDAStream()>>>(
      g.const_data_ptr<float>(), grad_regularizer.const_data_ptr<float>(),
      w.const_data_ptr<float>(), v.const_data_ptr<float>(), result.mutable_data_ptr<float>(),
      w.numel(), grids.pointers(), channel_runs(w, axis), settings);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("soft_round_backward", &soft_round_backward_cuda); }

}  // namespace repq_fx

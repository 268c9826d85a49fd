#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "common/blocks.h"
#include "common/fake_quantize.h"
#include "common/float_types.h"
#include "common/tensors.h"
#include "cuda/channel_grids.h"
#include "cuda/launch.h"
#include "cuda/tree_sum.h"
#include "cuda/vector.h"
#include "cuda/with_rounding.h"

namespace repq_fx {
namespace {

// A thread block takes one block of `blocks` after another and leaves its sums in a row of
// `scale_sums` and `outside_sums`; a thread takes `size` lanes, from the first row to the last.
template <int size, Rounding rounding, bool keeps, typename T>
__global__ void fake_quantize_backward_kernel(const T* grads, const T* values, T* grad_input,
                                              Blocks blocks, Grids grids, FakeQuantizeLimits limits,
                                              double* scale_sums, double* outside_sums) {
  __shared__ double scale_lanes[min_lanes], outside_lanes[min_lanes];
  const bool repeats = blocks.lanes > blocks.width;
  for (int64_t block = blockIdx.x; block < blocks.count; block += gridDim.x) {
    const int64_t begin = blocks.begin(block), end = blocks.end(block);
    double* const scale_row = scale_sums + blocks.sum_index(block);
    double* const outside_row = outside_sums + blocks.sum_index(block);
    for (int64_t lane = threadIdx.x * size; lane < blocks.lanes; lane += blockDim.x * size) {
      float inverse_scale[size], zero[size];
      for (int j = 0; j < size; ++j) {
        const int64_t c = blocks.width > 1 ? (lane + j) % blocks.width : blocks.channel(block);
        inverse_scale[j] = grids.inverse_scale[c];
        zero[j] = grids.zero[c];
      }
      double scale_sum[size] = {}, outside_sum[size] = {};
#pragma unroll 4
      for (int64_t i = begin + lane; i < end; i += blocks.lanes) {
        using Values = Vector<T, size>;
        const Values g = *reinterpret_cast<const Values*>(grads + i);
        const Values x = *reinterpret_cast<const Values*>(values + i);
        Values result;
        uint32_t words[words_per_counter] = {};
        if constexpr (keeps || rounding == Rounding::stochastic) {
          philox(limits.seed, i / words_per_counter, words);
        }
        for (int j = 0; j < size; ++j) {
          const FakeQuantizeGradient gradient = fake_quantize_gradient<rounding, keeps>(
              static_cast<float>(g.values[j]), static_cast<float>(x.values[j]), inverse_scale[j],
              zero[j], words[size > 1 ? j : i % words_per_counter], limits);
          result.values[j] = static_cast<T>(gradient.input);
          scale_sum[j] += gradient.scale;
          outside_sum[j] += gradient.outside;
        }
        *reinterpret_cast<Values*>(grad_input + i) = result;
      }
      for (int j = 0; j < size; ++j) {
        (repeats ? scale_lanes : scale_row)[lane + j] = scale_sum[j];
        (repeats ? outside_lanes : outside_row)[lane + j] = outside_sum[j];
      }
    }
    if (!repeats) continue;
    __syncthreads();
    tree_sum_together(scale_lanes, blocks.lanes / blocks.width, blocks.width, blocks.width);
    tree_sum_together(outside_lanes, blocks.lanes / blocks.width, blocks.width, blocks.width);
    for (int64_t c = threadIdx.x; c < blocks.width; c += blockDim.x) {
      scale_row[c] = scale_lanes[c];
      outside_row[c] = outside_lanes[c];
    }
    __syncthreads();
  }
}

// A thread block takes a channel.
__global__ void sum_rows_kernel(double* scale_sums, double* outside_sums, int64_t rows,
                                int64_t channels, const float* scale, float* grad_scale,
                                float* grad_zero_point) {
  const int64_t c = blockIdx.x;
  tree_sum_together(scale_sums + c, rows, 1, channels);
  tree_sum_together(outside_sums + c, rows, 1, channels);
  if (threadIdx.x == 0) {
    grad_scale[c] = static_cast<float>(scale_sums[c]);
    grad_zero_point[c] = -scale[c] * static_cast<float>(outside_sums[c]);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> fake_quantize_backward_cuda(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& scale,
    const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max, std::optional<int64_t> axis,
    int64_t rounding, double keep, int64_t seed) {
  const FakeQuantizeLimits limits = check_fake_quantize(input, scale, zero_point, quant_min,
                                                        quant_max, axis, rounding, keep, seed);
  check_like("fake_quantize", "grad", grad, input);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const at::Tensor g = dense_like(grad, x);
  const at::Tensor grad_input = at::empty_like(x);
  const at::Tensor grad_scale = at::zeros_like(scale), grad_zero_point = at::zeros_like(scale);
  if (x.numel() == 0) return {grad_input, grad_scale, grad_zero_point};

  const Blocks blocks = channel_blocks(x, axis);
  const ChannelGrids grids(scale, zero_point);
  const at::Tensor sums =
      at::empty({2, blocks.rows() * blocks.channels}, scale.options().dtype(at::kDouble));
  auto* const scale_sums = sums.mutable_data_ptr<double>();
  double* const outside_sums = scale_sums + blocks.rows() * blocks.channels;
  const auto stream = at::cuda::getCurrentCUDAStream();
  with_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const T* grads = g.const_data_ptr<T>();
    const T* values = x.const_data_ptr<T>();
    T* result = grad_input.mutable_data_ptr<T>();
    // Then every row starts aligned, and ends with a whole vector.
    const bool vectors = is_vector_aligned(grads) && is_vector_aligned(values) &&
                         is_vector_aligned(result) && blocks.lanes % vector_size == 0 &&
                         blocks.segment % vector_size == 0;
    const int64_t wanted = blocks.lanes / (vectors ? vector_size : 1);
    const auto threads = static_cast<int>(std::clamp<int64_t>(wanted, 32, threads_per_block));
    with_rounding(static_cast<Rounding>(rounding), keep > 0, [&](auto mode, auto keeps) {
      constexpr Rounding fixed = decltype(mode)::value;
      constexpr bool keeping = decltype(keeps)::value;
      const auto kernel = vectors ? fake_quantize_backward_kernel<vector_size, fixed, keeping, T>
                                  : fake_quantize_backward_kernel<1, fixed, keeping, T>;
      kernel<<<grid_size(blocks), threads, 0, stream>>>(
          grads, values, result, blocks, grids.pointers(), limits, scale_sums, outside_sums);
    });
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  sum_rows_kernel<<<static_cast<int>(blocks.channels), threads_per_block, 0, stream>>>(
      scale_sums, outside_sums, blocks.rows(), blocks.channels, grids.pointers().scale,
      grad_scale.mutable_data_ptr<float>(), grad_zero_point.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_input, grad_scale, grad_zero_point};
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) {
  m.impl("fake_quantize_backward", &fake_quantize_backward_cuda);
}

}  // namespace repq_fx

#include <ATen/ATen.h>
#include <torch/library.h>

#include <limits>

#include "common/channel_runs.h"
#include "common/fake_quantize.h"
#include "common/float_types.h"
#include "common/tensors.h"
#include "cuda/channel_grids.h"
#include "cuda/launch.h"
#include "cuda/vector.h"
#include "cuda/with_rounding.h"

namespace repq_fx {
namespace {

// `index_t` is the type of the divisions that find the channel, slow on 64 bits.
template <typename index_t, Rounding rounding, bool keeps, typename T>
__global__ void fake_quantize_kernel(const T* values, T* output, int64_t size, Grids grids,
                                     ChannelRuns runs, FakeQuantizeLimits limits, bool aligned) {
  const auto run = static_cast<index_t>(runs.run);
  const auto channels = static_cast<index_t>(runs.channels);
  const int64_t stride = int64_t{gridDim.x} * blockDim.x * vector_size;
  int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * vector_size;
  for (; i < size; i += stride) {
    const Vector<T> x = load(values + i, size - i, aligned);
    Vector<T> y;
    uint32_t words[vector_size] = {};
    if constexpr (keeps || rounding == Rounding::stochastic) {
      philox(limits.seed, i / words_per_counter, words);
    }
    const index_t first_run = channels == 1 ? 0 : static_cast<index_t>(i) / run;
    index_t c = channels == 1 ? 0 : first_run % channels;
    index_t left = channels == 1 ? vector_size : (first_run + 1) * run - static_cast<index_t>(i);
    for (int j = 0; j < vector_size; ++j) {
      y.values[j] = static_cast<T>(fake_quantize_value<rounding, keeps>(
          static_cast<float>(x.values[j]), grids.inverse_scale[c], grids.scale[c], grids.zero[c],
          words[j], limits));
      if (--left == 0) {
        left = run;
        c = c + 1 == channels ? 0 : c + 1;
      }
    }
    store(y, size - i, aligned, output + i);
  }
}

at::Tensor fake_quantize_cuda(const at::Tensor& input, const at::Tensor& scale,
                              const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                              std::optional<int64_t> axis, int64_t rounding, double keep,
                              int64_t seed) {
  const FakeQuantizeLimits limits = check_fake_quantize(input, scale, zero_point, quant_min,
                                                        quant_max, axis, rounding, keep, seed);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const at::Tensor output = at::empty_like(x);
  if (x.numel() == 0) return output;
  const ChannelGrids grids(scale, zero_point);
  const bool narrow = x.numel() <= std::numeric_limits<int32_t>::max();
  with_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const T* values = x.const_data_ptr<T>();
    T* result = output.mutable_data_ptr<T>();
    const bool aligned = is_vector_aligned(values) && is_vector_aligned(result);
    with_rounding(static_cast<Rounding>(rounding), keep > 0, [&](auto mode, auto keeps) {
      const auto kernel =
          narrow ? fake_quantize_kernel<int32_t, decltype(mode)::value, decltype(keeps)::value, T>
                 : fake_quantize_kernel<int64_t, decltype(mode)::value, decltype(keeps)::value, T>;
      const int blocks = block_count((x.numel() + vector_size - 1) / vector_size);
      kernel<<<blocks, threads_per_block, 0, at::cuda::getCurrentCUDAStream()>>>(
          values, result, x.numel(), grids.pointers(), channel_runs(x, axis), limits, aligned);
    });
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("fake_quantize", &fake_quantize_cuda); }

}  // namespace repq_fx

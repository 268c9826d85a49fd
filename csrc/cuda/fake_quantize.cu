#include <ATen/ATen.h>
#include <torch/library.h>

#include <limits>

#include "common/dense.h"
#include "common/fake_quantize.h"
#include "cuda/launch.h"

namespace repq_fx {
namespace {

struct Parameters {
  const float* inverse_scale;
  const float* scale;
  const float* zero;
};

// `index_t` is the type of the two divisions that find the channel, slow on 64 bits.
template <typename index_t>
__global__ void fake_quantize_kernel(const float* values, float* output, int64_t size,
                                     Parameters parameters, ChannelLayout layout,
                                     FakeQuantizeLimits limits) {
  const auto run = static_cast<index_t>(layout.run);
  const auto channels = static_cast<index_t>(layout.channels);
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    const index_t c = channels == 1 ? 0 : static_cast<index_t>(i) / run % channels;
    output[i] = fake_quantize_value(values[i], parameters.inverse_scale[c], parameters.scale[c],
                                    parameters.zero[c], limits);
  }
}

at::Tensor fake_quantize_cuda(const at::Tensor& input, const at::Tensor& scale,
                              const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                              std::optional<int64_t> axis) {
  check_fake_quantize(input, scale, zero_point, quant_min, quant_max, axis);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const at::Tensor output = at::empty_like(x);
  if (x.numel() == 0) return output;
  // The parameters stay on the device: reading one here would wait for all queued work.
  const at::Tensor scales = scale.contiguous();
  const at::Tensor inverse_scales = scales.reciprocal();
  const at::Tensor zeros = zero_point.to(at::kFloat).contiguous();
  const Parameters parameters{inverse_scales.const_data_ptr<float>(),
                              scales.const_data_ptr<float>(), zeros.const_data_ptr<float>()};
  const FakeQuantizeLimits limits{static_cast<float>(quant_min), static_cast<float>(quant_max)};
  const bool narrow = x.numel() <= std::numeric_limits<int32_t>::max();
  const auto kernel = narrow ? fake_quantize_kernel<int32_t> : fake_quantize_kernel<int64_t>;
  kernel<<<block_count(x.numel()), threads_per_block, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.const_data_ptr<float>(), output.mutable_data_ptr<float>(), x.numel(), parameters,
      channel_layout(x, axis), limits);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("fake_quantize", &fake_quantize_cuda); }

}  // namespace repq_fx

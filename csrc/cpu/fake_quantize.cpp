#include "common/fake_quantize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "common/dense.h"
#include "cpu/simd_clones.h"

namespace repq_fx {
namespace {

constexpr int64_t grain_size = 1 << 15;  // Values that pay for waking a thread.

struct Parameters {
  const float* inverse_scale;
  const float* scale;
  const float* zero;
};

// Values that all have channel `c`.
REPQ_FX_SIMD_CLONES
void one_channel(const float* values, float* output, int64_t size, Parameters p, int64_t c,
                 FakeQuantizeLimits limits) {
  const float inverse_scale = p.inverse_scale[c], scale = p.scale[c], zero = p.zero[c];
  for (int64_t i = 0; i < size; ++i) {
    output[i] = fake_quantize_value(values[i], inverse_scale, scale, zero, limits);
  }
}

// Values that have the channels `c`, `c + 1`, ...
REPQ_FX_SIMD_CLONES
void consecutive_channels(const float* values, float* output, int64_t size, Parameters p, int64_t c,
                          FakeQuantizeLimits limits) {
  for (int64_t i = 0; i < size; ++i) {
    output[i] = fake_quantize_value(values[i], p.inverse_scale[c + i], p.scale[c + i],
                                    p.zero[c + i], limits);
  }
}

at::Tensor fake_quantize_cpu(const at::Tensor& input, const at::Tensor& scale,
                             const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                             std::optional<int64_t> axis) {
  check_fake_quantize(input, scale, zero_point, quant_min, quant_max, axis);
  const at::Tensor x = dense(input);
  const at::Tensor output = at::empty_like(x);
  const ChannelLayout layout = channel_layout(x, axis);
  const at::Tensor scales = scale.contiguous();
  const at::Tensor inverse_scales = scales.reciprocal();
  const at::Tensor zeros = zero_point.to(at::kFloat).contiguous();
  const Parameters parameters{inverse_scales.const_data_ptr<float>(),
                              scales.const_data_ptr<float>(), zeros.const_data_ptr<float>()};
  const FakeQuantizeLimits limits{static_cast<float>(quant_min), static_cast<float>(quant_max)};

  const float* values = x.const_data_ptr<float>();
  float* result = output.mutable_data_ptr<float>();
  // Runs of one value are the channels_last case; there the rows of channels are the long loops.
  const bool interleaved = layout.run == 1;
  const int64_t piece = interleaved ? layout.channels : layout.run;
  at::parallel_for(0, x.numel(), grain_size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin, next; i < end; i = next) {
      next = std::min(end, i - i % piece + piece);
      const int64_t channel = i / layout.run % layout.channels;
      const auto process = interleaved ? consecutive_channels : one_channel;
      process(values + i, result + i, next - i, parameters, channel, limits);
    }
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CPU, m) { m.impl("fake_quantize", &fake_quantize_cpu); }

}  // namespace repq_fx

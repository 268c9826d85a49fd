// Depthwise convolution of 8-bit images: one k x k filter for each channel.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/avx512_vnni/depthwise/kernel.h"
#include "cpu/int8/image.h"
#include "cpu/int8/kernels/depthwise_layer.h"
#include "cpu/int8/kernels/epilogue.h"

namespace repq_fx {

class Int8Depthwise {
 public:
  // `weight` is [channels][kernel rows][kernel columns]. `coarse`, if not null, is [channels]: a
  // second weight at the kernel's centre, with its own scale. `settings` need no scale and bias.
  Int8Depthwise(const DepthwiseShape& shape, const int8_t* weight, std::vector<float> scale,
                std::vector<float> bias, const int8_t* coarse, std::vector<float> coarse_scale,
                int32_t input_zero_point, const Epilogue& settings)
      : layer_{.shape = shape,
               .weight = channels_last(weight, shape),
               .coarse = coarse == nullptr ? std::vector<int8_t>()
                                           : std::vector<int8_t>(coarse, coarse + shape.channels),
               .scale = std::move(scale),
               .bias = std::move(bias),
               .coarse_scale = std::move(coarse_scale),
               .input_zero_point = input_zero_point,
               .epilogue = settings} {
    layer_.epilogue.scale = layer_.scale.data();
    layer_.epilogue.bias = layer_.bias.data();
#ifdef REPQ_FX_AVX512
    if (has_vnni()) packed_.emplace(layer_);
#endif
  }
  Int8Depthwise(const Int8Depthwise&) = delete;
  Int8Depthwise& operator=(const Int8Depthwise&) = delete;

  int64_t tasks(const InputImage& input, const LayerOutput& output) const {
#ifdef REPQ_FX_AVX512
    if (packed_) return avx512::depthwise::tasks(*packed_, input.batch, output.height);
#endif
    return input.batch * output.height;
  }

  void run(const InputImage& input, const LayerOutput& output, int64_t first, int64_t last) const {
#ifdef REPQ_FX_AVX512
    if (packed_) return avx512::depthwise::run(layer_, *packed_, input, output, first, last);
#endif
    portable::depthwise_rows(layer_, input, output, first, last);
  }

 private:
  static std::vector<int8_t> channels_last(const int8_t* weight, const DepthwiseShape& shape) {
    const int64_t taps = shape.kernel[0] * shape.kernel[1];
    std::vector<int8_t> result(shape.channels * taps);
    for (int64_t channel = 0; channel < shape.channels; ++channel) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        result[tap * shape.channels + channel] = weight[channel * taps + tap];
      }
    }
    return result;
  }

  DepthwiseLayer layer_;
#ifdef REPQ_FX_AVX512
  std::optional<avx512::depthwise::PackedDepthwise> packed_;
#endif
};

}  // namespace repq_fx

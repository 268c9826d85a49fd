// What a depthwise convolution computes, and its plain loops.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels/epilogue.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

struct DepthwiseShape {
  int64_t channels;
  std::array<int64_t, 2> kernel, stride, padding, dilation;  // Vertical, horizontal.
};

// sum = sum over taps of weight[tap] * (x[tap] - zero point), outside of the image 0;
// value = sum * scale + bias + coarse weight * (x[centre] - zero point) * coarse scale.
struct DepthwiseLayer {
  DepthwiseShape shape;
  std::vector<int8_t> weight;  // [kernel rows][kernel columns][channels]
  std::vector<int8_t> coarse;  // [channels]; or empty.
  std::vector<float> scale, bias, coarse_scale;
  int32_t input_zero_point;
  Epilogue epilogue;  // Its `scale` and `bias` are those above.

  int64_t taps() const { return shape.kernel[0] * shape.kernel[1]; }
};

namespace portable {

REPQ_FX_SIMD_CLONES
static void add_products(const uint8_t* input, const int8_t* weight, int64_t channels,
                         int32_t zero_point, int32_t* sums) {
  REPQ_FX_NO_OVERLAP
  for (int64_t i = 0; i < channels; ++i) sums[i] += (input[i] - zero_point) * weight[i];
}

REPQ_FX_SIMD_CLONES
static void scale_sums(const int32_t* sums, const float* scale, int64_t channels, float* values) {
  REPQ_FX_NO_OVERLAP
  for (int64_t i = 0; i < channels; ++i) values[i] = static_cast<float>(sums[i]) * scale[i];
}

// The output rows from `first` to `last`, counted over the whole batch.
inline void depthwise_rows(const DepthwiseLayer& layer, const InputImage& input,
                           const LayerOutput& output, int64_t first, int64_t last) {
  const auto& [channels, kernel, stride, padding, dilation] = layer.shape;
  const Epilogue& epilogue = layer.epilogue;
  std::vector<int32_t> sums(channels), coarse(layer.coarse.size());
  std::vector<float> extra(layer.coarse.size());
  for (int64_t row = first; row < last; ++row) {
    const int64_t top = row % output.height * stride[0] - padding[0];
    const int64_t first_row = row / output.height * input.height;
    for (int64_t column = 0; column < output.width; ++column) {
      const int64_t left = column * stride[1] - padding[1];
      std::fill(sums.begin(), sums.end(), 0);
      std::fill(coarse.begin(), coarse.end(), 0);
      for (int64_t tap = 0; tap < layer.taps(); ++tap) {
        const int64_t tap_row = tap / kernel[1], tap_column = tap % kernel[1];
        const int64_t y = top + tap_row * dilation[0], x = left + tap_column * dilation[1];
        if (y < 0 || y >= input.height || x < 0 || x >= input.width) continue;
        const uint8_t* pixel = input.data + ((first_row + y) * input.width + x) * input.stride;
        const auto add = [&](const int8_t* weight, std::vector<int32_t>& to) {
          add_products(pixel, weight, channels, layer.input_zero_point, to.data());
        };
        add(layer.weight.data() + tap * channels, sums);
        const bool centre = tap_row == kernel[0] / 2 && tap_column == kernel[1] / 2;
        if (centre && !coarse.empty()) add(layer.coarse.data(), coarse);
      }
      scale_sums(coarse.data(), layer.coarse_scale.data(), coarse.size(), extra.data());
      const int64_t pixel = row * output.width + column;
      const auto at_pixel = [&](auto* image, int64_t pixel_stride) {
        return image == nullptr ? nullptr : image + pixel * pixel_stride;
      };
      portable::finish({.sums = sums.data(),
                        .extra = extra.empty() ? nullptr : extra.data(),
                        .stride = channels,
                        .pixels = 1,
                        .channels = channels,
                        .first_channel = 0,
                        .addend = at_pixel(output.addend, output.addend_stride),
                        .addend_stride = output.addend_stride,
                        .levels = at_pixel(output.levels, output.stride),
                        .values = at_pixel(output.values, output.stride),
                        .output_stride = output.stride},
                       epilogue);
    }
  }
}

}  // namespace portable
}  // namespace repq_fx

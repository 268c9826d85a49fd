// Depthwise convolution: one filter for each channel.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/int8/portable/epilogue.h"
#include "cpu/int8/portable/kernels.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx::portable {
namespace {

REPQ_FX_SIMD_CLONES
void add_products(const uint8_t* input, const int8_t* weight, int64_t channels, int32_t zero_point,
                  int32_t* sums) {
  REPQ_FX_NO_OVERLAP
  for (int64_t i = 0; i < channels; ++i) sums[i] += (input[i] - zero_point) * weight[i];
}

class Depthwise : public LayerKernel {
 public:
  Depthwise(const LayerWeights& weights, Layer layer)
      : layer_(std::move(layer)), fine_(layer_.shape.out_channels * layer_.shape.taps()) {
    const int64_t channels = layer_.shape.out_channels, taps = layer_.shape.taps();
    for (int64_t channel = 0; channel < channels; ++channel) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        fine_[tap * channels + channel] = weights.fine[channel * taps + tap];
      }
    }
    if (weights.coarse != nullptr) coarse_.assign(weights.coarse, weights.coarse + channels);
  }

  // A row.
  int64_t tasks(const InputImage& input, const LayerOutput& output) const override {
    return input.batch * output.height;
  }

  void run(const InputImage& input, const LayerOutput& output, int64_t first_task,
           int64_t last_task) const override {
    const auto& [in_channels, channels, groups, kernel, stride, padding, dilation] = layer_.shape;
    std::vector<int32_t> sums(channels), coarse_sums(coarse_.size());
    for (int64_t row = first_task; row < last_task; ++row) {
      const int64_t top = row % output.height * stride[0] - padding[0];
      const int64_t first_row = row / output.height * input.height;
      for (int64_t column = 0; column < output.width; ++column) {
        const int64_t left = column * stride[1] - padding[1];
        std::fill(sums.begin(), sums.end(), 0);
        std::fill(coarse_sums.begin(), coarse_sums.end(), 0);
        for (int64_t tap = 0; tap < layer_.shape.taps(); ++tap) {
          const int64_t tap_row = tap / kernel[1], tap_column = tap % kernel[1];
          const int64_t y = top + tap_row * dilation[0], x = left + tap_column * dilation[1];
          if (y < 0 || y >= input.height || x < 0 || x >= input.width) continue;
          const uint8_t* pixel = input.data + ((first_row + y) * input.width + x) * input.stride;
          const auto add = [&](const int8_t* weight, std::vector<int32_t>& to) {
            add_products(pixel, weight, std::ssize(to), layer_.input_zero_point, to.data());
          };
          add(fine_.data() + tap * channels, sums);
          const bool centre = tap_row == kernel[0] / 2 && tap_column == kernel[1] / 2;
          if (centre && !coarse_.empty()) add(coarse_.data(), coarse_sums);
        }
        finish({.fine = sums.data(),
                .coarse = coarse_.empty() ? nullptr : coarse_sums.data(),
                .first_channel = 0,
                .channels = channels},
               layer_, output, row * output.width + column);
      }
    }
  }

 private:
  Layer layer_;
  std::vector<int8_t> fine_;    // [kernel rows][kernel columns][channels]
  std::vector<int8_t> coarse_;  // [channels]; or empty.
};

}  // namespace

std::unique_ptr<LayerKernel> make_depthwise(const LayerWeights& weights, Layer layer) {
  return std::make_unique<Depthwise>(weights, std::move(layer));
}

}  // namespace repq_fx::portable

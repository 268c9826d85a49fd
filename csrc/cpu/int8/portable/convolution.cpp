// Dense and grouped convolution and linear layers.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/portable/epilogue.h"
#include "cpu/int8/portable/kernels.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx::portable {
namespace {

constexpr int64_t quad_channels = 4;     // Adjacent input channels, read at once.
constexpr int64_t vector_channels = 16;  // Output channels that are summed at once.
constexpr int64_t vector_bytes = vector_channels * quad_channels;  // Of the weights for a quad.
constexpr int64_t block_vectors = 4;  // Whose weights usually stay in L2.
constexpr int64_t strip_pixels = 96;  // Of a task: few enough for all threads to have some.

int64_t round_up_quotient(int64_t number, int64_t divisor) {
  return (number + divisor - 1) / divisor;
}

// Adds the products of `count` input pixels, one for each tap, to the sums of a vector.
REPQ_FX_SIMD_CLONES
void add_products(const uint8_t* const* inputs, int64_t count, int64_t quads, const int8_t* weights,
                  int32_t* sums) {
  // The four products of each channel are summed apart: of the ways tried the one that compilers
  // vectorize best.
  int32_t apart[vector_bytes] = {};
  for (int64_t tap = 0; tap < count; ++tap) {
    const uint8_t* input = inputs[tap];
    for (int64_t quad = 0; quad < quads; ++quad, input += quad_channels, weights += vector_bytes) {
      uint8_t repeated[vector_bytes];
      for (int64_t i = 0; i < vector_bytes; i += quad_channels) {
        std::memcpy(repeated + i, input, quad_channels);
      }
      for (int64_t i = 0; i < vector_bytes; ++i) apart[i] += repeated[i] * weights[i];
    }
  }
  for (int64_t c = 0; c < vector_channels; ++c) {
    for (int64_t i = 0; i < quad_channels; ++i) sums[c] += apart[c * quad_channels + i];
  }
}

// Weights as [groups][vectors][taps][quads][16][4], padded with zeros, and what their sums start
// with: minus the share of the input's zero point.
class PackedWeights {
 public:
  // `weight` is [out_channels][group_inputs][taps].
  PackedWeights(const ConvolutionShape& shape, const int8_t* weight, int64_t taps,
                int32_t input_zero_point)
      : taps_(taps),
        quads_(round_up_quotient(shape.group_inputs(), quad_channels)),
        vectors_(round_up_quotient(shape.group_outputs(), vector_channels)),
        weights_(shape.groups * vectors_ * taps * quads_ * vector_bytes),
        start_(shape.groups * vectors_ * vector_channels) {
    for (int64_t channel = 0; channel < shape.out_channels; ++channel) {
      const int64_t group = channel / shape.group_outputs();
      const int64_t output = channel % shape.group_outputs();
      const int64_t vector = group * vectors_ + output / vector_channels;
      const int64_t lane = output % vector_channels;
      int32_t sum = 0;
      for (int64_t input = 0; input < shape.group_inputs(); ++input) {
        for (int64_t tap = 0; tap < taps; ++tap, ++weight) {
          const int64_t quad = (vector * taps + tap) * quads_ + input / quad_channels;
          weights_[quad * vector_bytes + lane * quad_channels + input % quad_channels] = *weight;
          sum += *weight;
        }
      }
      // sum w (x - z) = sum w x - z sum w.
      start_[vector * vector_channels + lane] = -input_zero_point * sum;
    }
  }

  int64_t group_vectors() const { return vectors_; }

  // The sums of a vector of a group's output channels; `inputs` are the pixels that the taps meet,
  // at the group's first channel.
  void sum(int64_t group, int64_t vector, const uint8_t* const* inputs, int32_t* sums) const {
    const int64_t index = group * vectors_ + vector;
    std::copy_n(start_.data() + index * vector_channels, vector_channels, sums);
    add_products(inputs, taps_, quads_, weights_.data() + index * taps_ * quads_ * vector_bytes,
                 sums);
  }

 private:
  int64_t taps_, quads_, vectors_;
  std::vector<int8_t> weights_;
  std::vector<int32_t> start_;
};

class Convolution : public LayerKernel {
 public:
  Convolution(const LayerWeights& weights, Layer layer)
      : layer_(std::move(layer)),
        fine_(layer_.shape, weights.fine, layer_.shape.taps(), layer_.input_zero_point),
        outside_(layer_.shape.group_inputs() + quad_channels,
                 static_cast<uint8_t>(layer_.input_zero_point)) {
    if (weights.coarse != nullptr) {
      coarse_.emplace(layer_.shape, weights.coarse, 1, layer_.input_zero_point);
    }
  }

  // A strip of pixels for a block of channels of a group.
  int64_t tasks(const InputImage& input, const LayerOutput& output) const override {
    const int64_t pixels = input.batch * output.height * output.width;
    return round_up_quotient(pixels, strip_pixels) * layer_.shape.groups * group_blocks();
  }

  void run(const InputImage& input, const LayerOutput& output, int64_t first_task,
           int64_t last_task) const override {
    const int64_t pixels = input.batch * output.height * output.width;
    const int64_t blocks = layer_.shape.groups * group_blocks();
    for (int64_t task = first_task; task < last_task; ++task) {
      const int64_t first = task / blocks * strip_pixels;
      const int64_t last = std::min(first + strip_pixels, pixels);
      run_block(input, output, task % blocks, first, last);
    }
  }

 private:
  int64_t group_blocks() const { return round_up_quotient(fine_.group_vectors(), block_vectors); }

  void run_block(const InputImage& input, const LayerOutput& output, int64_t block, int64_t first,
                 int64_t last) const {
    const ConvolutionShape& shape = layer_.shape;
    const int64_t group = block / group_blocks();
    const int64_t begin = block % group_blocks() * block_vectors;
    const int64_t end = std::min(begin + block_vectors, fine_.group_vectors());
    std::vector<const uint8_t*> inputs(shape.taps());
    const int64_t centre = shape.kernel[0] / 2 * shape.kernel[1] + shape.kernel[1] / 2;
    int32_t sums[vector_channels], coarse_sums[vector_channels];
    for (int64_t pixel = first; pixel < last; ++pixel) {
      find_inputs(input, output, pixel, group * shape.group_inputs(), inputs);
      for (int64_t vector = begin; vector < end; ++vector) {
        fine_.sum(group, vector, inputs.data(), sums);
        if (coarse_) coarse_->sum(group, vector, inputs.data() + centre, coarse_sums);
        const int64_t channel = vector * vector_channels;  // In the group.
        finish({.fine = sums,
                .coarse = coarse_ ? coarse_sums : nullptr,
                .first_channel = group * shape.group_outputs() + channel,
                .channels = std::min(vector_channels, shape.group_outputs() - channel)},
               layer_, output, pixel);
      }
    }
  }

  // The pixels that the taps of output pixel `pixel` meet, from `channel` on.
  void find_inputs(const InputImage& input, const LayerOutput& output, int64_t pixel,
                   int64_t channel, std::vector<const uint8_t*>& inputs) const {
    const auto& [in_channels, out_channels, groups, kernel, stride, padding, dilation] =
        layer_.shape;
    const int64_t row = pixel / output.width;
    const int64_t top = row % output.height * stride[0] - padding[0];
    const int64_t left = pixel % output.width * stride[1] - padding[1];
    const int64_t first_row = row / output.height * input.height;
    for (int64_t tap_row = 0, tap = 0; tap_row < kernel[0]; ++tap_row) {
      const int64_t y = top + tap_row * dilation[0];
      const bool row_inside = 0 <= y && y < input.height;
      for (int64_t tap_column = 0; tap_column < kernel[1]; ++tap_column, ++tap) {
        const int64_t x = left + tap_column * dilation[1];
        const bool inside = row_inside && 0 <= x && x < input.width;
        inputs[tap] =
            inside ? input.data + ((first_row + y) * input.width + x) * input.stride + channel
                   : outside_.data();
      }
    }
  }

  Layer layer_;
  PackedWeights fine_;
  std::optional<PackedWeights> coarse_;
  std::vector<uint8_t> outside_;  // A pixel of real zeros.
};

}  // namespace

std::unique_ptr<LayerKernel> make_convolution(const LayerWeights& weights, Layer layer) {
  return std::make_unique<Convolution>(weights, std::move(layer));
}

}  // namespace repq_fx::portable

// Dense and grouped convolution and linear layers in 8 bits, with plain or coarse + fine weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels/epilogue.h"
#include "cpu/int8/kernels/output_steps.h"
#include "cpu/int8/kernels/packed_weights.h"
#include "cpu/int8/kernels/products.h"
#include "cpu/int8/kernels/taps.h"

namespace repq_fx {

// sum(fine * x) * scale + sum(coarse * x) * coarse_scale + bias and what else an epilogue does.
// Immutable, so that many threads may run it.
class Int8Convolution {
 public:
  // weight: [out_channels][in_channels / groups][height][width]; coarse: null, or the same at the
  // kernel's centre alone. `settings` need no scale and bias.
  Int8Convolution(const ConvolutionShape& shape, const int8_t* weight, std::vector<float> scale,
                  std::vector<float> bias, const int8_t* coarse,
                  const std::vector<float>& coarse_scale, int32_t input_zero_point,
                  const Epilogue& settings)
      : shape_(shape),
        layout_(shape.in_channels, shape.out_channels, shape.groups, shape.taps()),
        fine_(layout_, weight, shape.taps(), input_zero_point),
        scale_(std::move(scale)),
        bias_(std::move(bias)),
        outside_(shape.in_channels + read_slack, static_cast<uint8_t>(input_zero_point)),
        epilogue_(settings) {
    epilogue_.scale = scale_.data();
    epilogue_.bias = bias_.data();
    const OutputSteps steps(settings);
    const auto pad = [&](float value, const ChannelNumbers& factor) {
      return layout_.pad(std::vector<float>(shape.out_channels, value), factor);
    };
    step_scale_ = layout_.pad(scale_, steps.per_real);
    step_bias_ = layout_.pad(bias_, steps.per_real);
    step_addend_scale_ = pad(settings.addend_scale, steps.per_real);
    step_unit_ = pad(1, steps.unit);
    if (coarse != nullptr) {
      coarse_.emplace(layout_, coarse, 1, input_zero_point);
      coarse_scale_ = layout_.pad(coarse_scale, ChannelNumbers({1}));
      coarse_step_scale_ = layout_.pad(coarse_scale, steps.per_real);
    }
    only_rounds_ = has_vnni() && steps.suffice && steps_fit();
  }
  Int8Convolution(const Int8Convolution&) = delete;
  Int8Convolution& operator=(const Int8Convolution&) = delete;

  // In how many parts `run` may be divided, whichever way.
  int64_t tasks(const InputImage& input, const LayerOutput& output) const {
    return strips(input, output) * static_cast<int64_t>(layout_.blocks().size());
  }

  void run(const InputImage& input, const LayerOutput& output, int64_t first_task,
           int64_t last_task) const {
    const int64_t count = strips(input, output);
    const int64_t pixels = input.batch * output.height * output.width;
    const auto blocks = static_cast<int64_t>(layout_.blocks().size());
    TapFinder finder(shape_, input, output.height, output.width, outside_.data(), layout_.quads());
    while (first_task < last_task) {
      const int64_t strip = first_task / blocks, block = first_task % blocks;
      const int64_t end = std::min(blocks, block + last_task - first_task);
      run_strip(finder, output, {pixels * strip / count, pixels * (strip + 1) / count},
                {block, end});
      first_task += end - block;
    }
  }

 private:
  struct Range {
    int64_t begin, end;
  };

  // Weights that stay in L1, and inputs that stay in L2, while others pass.
  static constexpr int64_t resident_weights = 20 << 10, resident_inputs = 256 << 10;

  // Strips of neighbouring pixels, each computed for a block of channels in a task.
  int64_t strips(const InputImage& input, const LayerOutput& output) const {
    constexpr int64_t least_pixels = 96, wanted_tasks = 8;
    const int64_t pixels = input.batch * output.height * output.width;
    const auto blocks = static_cast<int64_t>(layout_.blocks().size());
    const int64_t most = std::max<int64_t>(1, pixels / least_pixels);
    const int64_t for_cache = input.pixels() * input.stride / resident_inputs;
    return std::clamp<int64_t>(std::max(wanted_tasks / blocks, for_cache), 1, most);
  }

  // Whether no sum leaves int32 when it is scaled to steps of the output.
  bool steps_fit() const {
    const int64_t products = layout_.group_inputs() * shape_.taps();
    bool fit = true;
    for (size_t c = 0; c < step_scale_.size(); ++c) {
      float scale = std::abs(step_scale_[c]) * static_cast<float>(products);
      if (coarse_) {
        scale += std::abs(coarse_step_scale_[c]) * static_cast<float>(layout_.group_inputs());
      }
      const float most = scale * 255 * 128 + std::abs(step_bias_[c]) + 255 * step_addend_scale_[c];
      fit = fit && most < 0x1p30f;  // So that NaN is refused.
    }
    return fit;
  }

  void run_strip(TapFinder& finder, const LayerOutput& output, Range pixels, Range blocks) const {
    // Where the weights of all blocks stay in L1, a tile's inputs are found once for all.
    const bool together = fine_.bytes() <= resident_weights;
    const int64_t step = together ? blocks.end - blocks.begin : 1;
    for (int64_t first = blocks.begin; first < blocks.end; first += step) {
      // The first of all blocks is the largest.
      const int64_t most = tile_pixels_of(layout_.blocks()[together ? 0 : first].vectors);
      int64_t tile = 0;
      for (int64_t begin = pixels.begin; begin < pixels.end;) {
        const int64_t end = begin + tile_pixels(pixels.end - begin, most);
        TileInputs inputs = finder.find(begin, end - begin);
        const TileInputs centre = finder.centre();
        if (!together && first + 1 < blocks.end) inputs.ahead = ahead(first, tile++);
        for (int64_t block = first; block < first + step; ++block) {
          run_tile(inputs, centre, layout_.blocks()[block], {begin, end}, output);
        }
        begin = end;
      }
    }
  }

  // Pixels of the next tile; the last two share what is left, since small tiles are slow.
  static int64_t tile_pixels(int64_t left_over, int64_t most) {
    if (left_over >= 2 * most || left_over <= most) return std::min(left_over, most);
    return (left_over + 1) / 2;
  }

  // From one block's weights to those of the next, of which each tile fetches one vector.
  int64_t ahead(int64_t block, int64_t tile) const {
    const int64_t vectors = layout_.blocks()[block].vectors;
    return tile < vectors ? vectors * fine_.vector_bytes() + tile * sizeof(WeightVector) : 0;
  }

  void run_tile(const TileInputs& inputs, const TileInputs& centre, const ChannelBlock& block,
                Range pixels, const LayerOutput& output) const {
#ifdef REPQ_FX_AVX512
    if (only_rounds_ && output.levels != nullptr) {
      return quantize_tile(inputs, centre, block, pixels, output);
    }
#endif
    const int64_t count = pixels.end - pixels.begin;
    alignas(64) float coarse[max_tile_vectors * vector_channels];
    if (coarse_) {
      static constexpr float no_bias[max_vectors * vector_channels] = {};
      scale_products(centre, coarse_->block(block), count,
                     {coarse_scale_.data() + block.padded_first, no_bias, 0}, coarse);
    }
    alignas(64) int32_t sums[max_tile_vectors * vector_channels];
    sum_products(inputs, fine_.block(block), count, sums);
    const int64_t o = pixels.begin * output.stride + block.first;
    const int64_t a = pixels.begin * output.addend_stride + block.first;
    finish({.sums = sums,
            .extra = coarse_ ? coarse : nullptr,
            .stride = block.vectors * vector_channels,
            .pixels = count,
            .channels = block.channels,
            .first_channel = block.first,
            .addend = output.addend == nullptr ? nullptr : output.addend + a,
            .addend_stride = output.addend_stride,
            .levels = output.levels == nullptr ? nullptr : output.levels + o,
            .values = output.levels == nullptr ? output.values + o : nullptr,
            .output_stride = output.stride},
           epilogue_);
  }

#ifdef REPQ_FX_AVX512
  // Where `OutputSteps` suffice, the sums are rounded while they are in registers, in steps of the
  // output; what is added to them is found first and takes the place of the bias.
  void quantize_tile(const TileInputs& inputs, const TileInputs& centre, const ChannelBlock& block,
                     Range pixels, const LayerOutput& output) const {
    const int64_t count = pixels.end - pixels.begin;
    alignas(64) float added[max_tile_vectors * vector_channels];
    Scaling scaling = {step_scale_.data() + block.padded_first,
                       step_bias_.data() + block.padded_first, 0,
                       step_unit_.data() + block.padded_first};
    const Scaling with_added = {scaling.scale, added, block.vectors * vector_channels,
                                scaling.unit};
    if (coarse_) {
      scale_products(centre, coarse_->block(block), count,
                     {coarse_step_scale_.data() + block.padded_first, scaling.bias, 0}, added);
      scaling = with_added;
    }
    if (output.addend != nullptr) {
      const uint8_t* levels = output.addend + pixels.begin * output.addend_stride + block.first;
      avx512::add_to_bias({levels, output.addend_stride, block.channels, epilogue_.addend_zero,
                           step_addend_scale_.data() + block.padded_first},
                          count, block.vectors, scaling, added);
      scaling = with_added;
    }
    const avx512::ProductKernels& kernels = avx512::product_kernels_of(block.vectors);
    const auto quantize = kernels.quantize_after(epilogue_.activation)[count - 1];
    quantize(inputs, fine_.block(block), scaling,
             {epilogue_.zero_point, epilogue_.lowest, epilogue_.highest},
             {output.levels + pixels.begin * output.stride + block.first, output.stride,
              block.channels});
  }
#endif

  ConvolutionShape shape_;
  ChannelLayout layout_;
  PackedWeights fine_;
  std::optional<PackedWeights> coarse_;
  std::vector<float> scale_, bias_;
  // Padded as the weights are: for steps of the output, or for real units.
  std::vector<float> step_scale_, step_bias_, step_addend_scale_, coarse_step_scale_, coarse_scale_;
  std::vector<float> step_unit_;  // What a step is in the unit of the function's argument.
  std::vector<uint8_t> outside_;  // A pixel of real zeros.
  Epilogue epilogue_;
  bool only_rounds_;  // Levels are rounded from registers.
};

}  // namespace repq_fx

#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/avx512_vnni/convolution/packed_weights.h"
#include "cpu/int8/avx512_vnni/convolution/products.h"
#include "cpu/int8/avx512_vnni/convolution/taps.h"
#include "cpu/int8/avx512_vnni/epilogue.h"
#include "cpu/int8/avx512_vnni/kernels.h"
#include "cpu/int8/avx512_vnni/output_steps.h"
#include "cpu/int8/image.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::convolution {
namespace {

class Convolution : public LayerKernel {
 public:
  Convolution(const LayerWeights& weights, Layer layer)
      : layer_(std::move(layer)),
        layout_(layer_.shape),
        fine_(layout_, weights.fine, layer_.shape.taps(), layer_.input_zero_point),
        outside_(layer_.shape.in_channels + read_slack,
                 static_cast<uint8_t>(layer_.input_zero_point)) {
    const OutputSteps steps(layer_.function, layer_.output);
    const auto pad = [&](float value, const ChannelNumbers& factor) {
      return layout_.pad(std::vector<float>(layer_.shape.out_channels, value), factor);
    };
    step_scale_ = layout_.pad(layer_.scale, steps.per_real);
    step_bias_ = layout_.pad(layer_.bias, steps.per_real);
    step_addend_scale_ = pad(layer_.addend.scale, steps.per_real);
    step_unit_ = pad(1, steps.unit);
    if (weights.coarse != nullptr) {
      coarse_.emplace(layout_, weights.coarse, 1, layer_.input_zero_point);
      coarse_scale_ = layout_.pad(layer_.coarse_scale, ChannelNumbers({1}));
      coarse_step_scale_ = layout_.pad(layer_.coarse_scale, steps.per_real);
    }
    only_rounds_ = steps.suffice && steps_fit();
    function_ = register_function(layer_.function.activation);
  }

  int64_t tasks(const InputImage& input, const LayerOutput& output) const override {
    return strips(input, output) * static_cast<int64_t>(layout_.blocks().size());
  }

  void run(const InputImage& input, const LayerOutput& output, int64_t first_task,
           int64_t last_task) const override {
    const int64_t count = strips(input, output);
    const int64_t pixels = input.batch * output.height * output.width;
    const auto blocks = static_cast<int64_t>(layout_.blocks().size());
    TapFinder finder(layer_.shape, input, output.height, output.width, outside_.data(),
                     layout_.quads());
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
    const int64_t products = layout_.group_inputs() * layer_.shape.taps();
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

  // Inlined, it would leave too few registers: small tiles take 2% longer.
  [[gnu::noinline]] void run_strip(TapFinder& finder, const LayerOutput& output, Range pixels,
                                   Range blocks) const {
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
    if (only_rounds_ && output.levels != nullptr) {
      return quantize_tile(inputs, centre, block, pixels, output);
    }
    const ProductKernels& kernels = product_kernels[block.vectors - 1];
    const int64_t count = pixels.end - pixels.begin;
    alignas(64) float coarse[max_tile_vectors * vector_channels];
    if (coarse_) {
      static constexpr float no_bias[max_vectors * vector_channels] = {};
      kernels.scale[count - 1](centre, coarse_->block(block),
                               {coarse_scale_.data() + block.padded_first, no_bias, 0}, coarse);
    }
    alignas(64) int32_t sums[max_tile_vectors * vector_channels];
    kernels.sum[count - 1](inputs, fine_.block(block), sums);
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
           layer_);
  }

  // Where `OutputSteps` suffice, the sums are rounded while they are in registers, in steps of the
  // output; what is added to them is found first and takes the place of the bias.
  void quantize_tile(const TileInputs& inputs, const TileInputs& centre, const ChannelBlock& block,
                     Range pixels, const LayerOutput& output) const {
    const int64_t count = pixels.end - pixels.begin;
    const ProductKernels& kernels = product_kernels[block.vectors - 1];
    alignas(64) float added[max_tile_vectors * vector_channels];
    Scaling scaling = {step_scale_.data() + block.padded_first,
                       step_bias_.data() + block.padded_first, 0,
                       step_unit_.data() + block.padded_first};
    const Scaling with_added = {scaling.scale, added, block.vectors * vector_channels,
                                scaling.unit};
    if (coarse_) {
      kernels.scale[count - 1](centre, coarse_->block(block),
                               {coarse_step_scale_.data() + block.padded_first, scaling.bias, 0},
                               added);
      scaling = with_added;
    }
    if (output.addend != nullptr) {
      const uint8_t* levels = output.addend + pixels.begin * output.addend_stride + block.first;
      add_to_bias({levels, output.addend_stride, block.channels, layer_.addend.zero_point,
                   step_addend_scale_.data() + block.padded_first},
                  count, block.vectors, scaling, added);
      scaling = with_added;
    }
    const auto quantize = kernels.quantize[function_];
    const OutputGrid& grid = layer_.output;
    quantize[count - 1](inputs, fine_.block(block), scaling,
                        {grid.zero_point, grid.lowest, grid.highest},
                        {output.levels + pixels.begin * output.stride + block.first, output.stride,
                         block.channels});
  }

  Layer layer_;
  ChannelLayout layout_;
  PackedWeights fine_;
  std::optional<PackedWeights> coarse_;
  // Padded as the weights are: for steps of the output, or for real units.
  std::vector<float> step_scale_, step_bias_, step_addend_scale_, coarse_step_scale_, coarse_scale_;
  std::vector<float> step_unit_;  // What a step is in the unit of the function's argument.
  std::vector<uint8_t> outside_;  // A pixel of real zeros.
  bool only_rounds_;              // Levels are rounded from registers,
  size_t function_;               // behind this one of `register_functions`.
};

}  // namespace

std::unique_ptr<LayerKernel> make(const LayerWeights& weights, Layer layer) {
  return std::make_unique<Convolution>(weights, std::move(layer));
}

}  // namespace repq_fx::avx512_vnni::convolution
#endif

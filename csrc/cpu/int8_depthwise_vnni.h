// The depthwise convolution for processors with AVX512-VNNI.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/int8_depthwise_columns.h"
#include "cpu/int8_depthwise_layer.h"
#include "cpu/int8_depthwise_tile.h"

#ifdef REPQ_FX_AVX512
namespace repq_fx::avx512 {

// How the output rows of a layer are grouped: where neither stride nor dilation spread them, rows
// share the quads of their input rows. The four rows of a quad serve two outputs of a 3x3 kernel.
struct RowGroup {
  int64_t quads, rows, row_step;  // Of the next output row the first input row is `row_step` below.

  explicit RowGroup(const DepthwiseShape& shape)
      : quads((shape.kernel[0] + quad_rows - 1) / quad_rows),
        rows(shape.dilation[0] > 1
                 ? 1
                 : std::min((quads * quad_rows - shape.kernel[0]) / shape.stride[0] + 1,
                            max_tile_rows)),
        row_step(shape.stride[0]) {}
};

// The weights of a kernel, or of some of its columns, in the order of `Taps`.
class PackedTaps {
 public:
  // `weight` is [kernel rows][columns][channels].
  PackedTaps(const std::vector<int8_t>& weight, const DepthwiseShape& shape, int64_t columns,
             const RowGroup& group, int32_t zero_point)
      : count_(columns * group.quads) {
    const int64_t vectors = (shape.channels + block_size - 1) / block_size * block_vectors;
    weights_.reserve(vectors * group.rows * count_ * vector_bytes);
    start_.resize(vectors * lanes);
    for (int64_t vector = 0; vector < vectors; ++vector) {
      for (int64_t row = 0; row < group.rows; ++row) {
        for (int64_t tap = 0; tap < count_ * lanes; ++tap) {
          const int64_t column = tap / lanes / group.quads, quad = tap / lanes % group.quads;
          const int64_t element = vector * lanes + tap % lanes;
          const int64_t channel = lane_order_channel(element);
          for (int64_t i = 0; i < quad_rows; ++i) {
            const int64_t y = quad * quad_rows + i - row * group.row_step;
            const bool exists = channel < shape.channels && 0 <= y && y < shape.kernel[0];
            weights_.push_back(exists ? weight[(y * columns + column) * shape.channels + channel]
                                      : 0);
            if (row == 0) start_[element] -= zero_point * weights_.back();
          }
        }
      }
    }
  }

  // The taps of one block of channels; `offsets` of their columns.
  Taps of_block(int64_t block, const QuadColumns& columns, const int64_t* offsets) const {
    const int64_t size = weights_.size() / (start_.size() / block_size);
    return {columns.data(),
            columns.plane(),
            offsets,
            count_,
            weights_.data() + block * size,
            start_.data() + block * block_size};
  }

 private:
  int64_t count_;
  AlignedVector<int8_t> weights_;
  AlignedVector<int32_t> start_;
};

// A layer's numbers as the loops read them.
struct PackedDepthwise {
  RowGroup group;
  int64_t blocks;
  PackedTaps fine;
  std::optional<PackedTaps> coarse;
  std::vector<uint8_t> zeros;  // A pixel of them, for a block.
  // In lane order, and in steps of the output.
  AlignedVector<float> scale, bias, coarse_scale;
  bool fits = true;  // The steps of every possible sum fit int32.

  explicit PackedDepthwise(const DepthwiseLayer& layer)
      : group(layer.shape),
        blocks((layer.shape.channels + block_size - 1) / block_size),
        fine(layer.weight, layer.shape, layer.shape.kernel[1], group, layer.input_zero_point),
        zeros(block_size, static_cast<uint8_t>(layer.input_zero_point)),
        scale(in_steps(layer, layer.scale)),
        bias(in_steps(layer, layer.bias)) {
    const int64_t channels = layer.shape.channels;
    if (!layer.coarse.empty()) {
      std::vector<int8_t> column(layer.shape.kernel[0] * channels);
      std::copy(layer.coarse.begin(), layer.coarse.end(),
                column.begin() + layer.shape.kernel[0] / 2 * channels);
      coarse.emplace(column, layer.shape, 1, group, layer.input_zero_point);
      coarse_scale = in_steps(layer, layer.coarse_scale);
    }
    const float largest_sum = static_cast<float>(layer.taps()) * 255 * 128;
    for (size_t i = 0; i < scale.size(); ++i) {
      float steps = largest_sum * std::abs(scale[i]) + std::abs(bias[i]);
      if (coarse) steps += 255 * 128 * std::abs(coarse_scale[i]);
      fits = fits && steps < 0x1p31f;
    }
  }

  // Groups of rows of an image.
  int64_t groups(int64_t height) const { return (height + group.rows - 1) / group.rows; }

 private:
  AlignedVector<float> in_steps(const DepthwiseLayer& layer, const std::vector<float>& values) {
    AlignedVector<float> steps(blocks * block_size);
    for (size_t i = 0; i < steps.size(); ++i) {
      const size_t channel = lane_order_channel(i);
      if (channel < values.size()) steps[i] = values[channel] * layer.settings.inverse_scale;
    }
    return steps;
  }
};

// One call's images, and the tiles in which it works.
class DepthwiseRun {
 public:
  DepthwiseRun(const DepthwiseLayer& layer, const PackedDepthwise& packed, const InputImage& input,
               const LayerOutput& output)
      : layer_(layer),
        packed_(packed),
        input_(input),
        output_(output),
        epilogue_(layer.epilogue()),
        only_scales_(packed.fits && output.levels != nullptr && output.addend == nullptr &&
                     epilogue_.activation == Activation::none),
        pixels_(best_tile_pixels(output.width)),
        multiply_(multiply_of(packed.group.rows, pixels_)),
        stretch_(stretch()),
        columns_(layer.shape, packed.group.quads, stretch_, {packed.zeros.data(), 0}),
        rows_(packed.group.quads * quad_rows),
        sums_(packed.group.rows * pixels_ * block_size),
        coarse_sums_(packed.coarse ? sums_.size() : 0),
        extra_(coarse_sums_.size()) {}

  // The group of output rows of `image` from row `y` on, for one block of channels.
  void rows(int64_t image, int64_t y, int64_t block) {
    find_rows(image, y, block);
    const int64_t rows = std::min(packed_.group.rows, output_.height - y);
    const Taps fine = packed_.fine.of_block(block, columns_, columns_.offsets());
    const int64_t* centre = columns_.offsets() + layer_.shape.kernel[1] / 2 * packed_.group.quads;
    for (int64_t left = 0; left < output_.width; left += stretch_) {
      const int64_t first = left * layer_.shape.stride[1] - layer_.shape.padding[1];
      columns_.start(rows_.data(), first, input_.width);
      const int64_t outputs = std::min(stretch_, output_.width - left);
      for (int64_t x = 0; x < outputs; x += pixels_) {
        const int64_t pixels = std::min(pixels_, outputs - x);
        columns_.extend(x + pixels);
        multiply_(fine.from(x), sums_.data());
        if (packed_.coarse) {
          multiply_(packed_.coarse->of_block(block, columns_, centre).from(x), coarse_sums_.data());
        }
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t pixel = (image * output_.height + y + row) * output_.width + left + x;
          finish_pixels(row, pixel, pixels, block);
        }
      }
    }
  }

 private:
  // The outputs of a row whose quads are interleaved together: such that they stay in the L1 cache.
  int64_t stretch() const {
    const DepthwiseShape& shape = layer_.shape;
    const int64_t reach = (shape.kernel[1] - 1) * shape.dilation[1];
    const int64_t fitting = (64 / packed_.group.quads - reach) / shape.stride[1];
    const int64_t tiles = std::min(fitting, output_.width + pixels_ - 1) / pixels_;
    return std::max<int64_t>(tiles, 1) * pixels_;
  }

  void find_rows(int64_t image, int64_t y, int64_t block) {
    const DepthwiseShape& shape = layer_.shape;
    const int64_t used = (packed_.group.rows - 1) * packed_.group.row_step + shape.kernel[0];
    for (int64_t i = 0; i < std::ssize(rows_); ++i) {
      const int64_t row = y * shape.stride[0] - shape.padding[0] + i * shape.dilation[0];
      if (i < used && 0 <= row && row < input_.height) {
        const int64_t pixel = (image * input_.height + row) * input_.width;
        rows_[i] = {input_.data + pixel * input_.stride + block * block_size, input_.stride};
      } else {
        rows_[i] = {packed_.zeros.data(), 0};
      }
    }
  }

  // Turns the sums of a tile's row into what the layer writes, from pixel `pixel` of the output on.
  void finish_pixels(int64_t row, int64_t pixel, int64_t pixels, int64_t block) {
    const int64_t first_channel = block * block_size;
    const int64_t channels = std::min(block_size, layer_.shape.channels - first_channel);
    const int64_t offset = pixel * output_.stride + first_channel;
    int32_t* sums = sums_.data() + row * pixels_ * block_size;
    int32_t* coarse = packed_.coarse ? coarse_sums_.data() + row * pixels_ * block_size : nullptr;
    if (only_scales_) {
      const StepScales scales{packed_.scale.data() + first_channel,
                              packed_.bias.data() + first_channel,
                              coarse ? packed_.coarse_scale.data() + first_channel : nullptr};
      const auto requantize = coarse ? avx512::requantize<true> : avx512::requantize<false>;
      return requantize(sums, coarse, pixels, scales, epilogue_, output_.levels + offset,
                        output_.stride, ~uint64_t{0} >> (block_size - channels));
    }
    for (int64_t i = 0; i < pixels; ++i) {
      to_channel_order(sums + i * block_size);
      if (coarse == nullptr) continue;
      to_channel_order(coarse + i * block_size);
      portable::scale_sums(coarse + i * block_size, layer_.coarse_scale.data() + first_channel,
                           channels, extra_.data() + i * block_size);
    }
    const auto at = [](auto* image, int64_t offset) { return image ? image + offset : nullptr; };
    const int64_t addend = pixel * output_.addend_stride + first_channel;
    avx512::finish({.sums = sums,
                    .extra = coarse ? extra_.data() : nullptr,
                    .stride = block_size,
                    .pixels = pixels,
                    .channels = channels,
                    .first_channel = first_channel,
                    .addend = at(output_.addend, addend),
                    .addend_stride = output_.addend_stride,
                    .levels = at(output_.levels, offset),
                    .values = at(output_.values, offset),
                    .output_stride = output_.stride},
                   epilogue_);
  }

  const DepthwiseLayer& layer_;
  const PackedDepthwise& packed_;
  const InputImage& input_;
  const LayerOutput& output_;
  Epilogue epilogue_;
  bool only_scales_;
  int64_t pixels_;  // Of a tile.
  Multiply multiply_;
  int64_t stretch_;
  QuadColumns columns_;
  std::vector<PixelRow> rows_;
  AlignedVector<int32_t> sums_, coarse_sums_;
  AlignedVector<float> extra_;
};

// A task is a group of rows of one block of channels.
inline void depthwise(const DepthwiseLayer& layer, const PackedDepthwise& packed,
                      const InputImage& input, const LayerOutput& output, int64_t first,
                      int64_t last) {
  DepthwiseRun run(layer, packed, input, output);
  const int64_t groups = packed.groups(output.height);
  for (int64_t task = first; task < last; ++task) {
    const int64_t group = task / packed.blocks;
    run.rows(group / groups, group % groups * packed.group.rows, task % packed.blocks);
  }
}

}  // namespace repq_fx::avx512
#endif

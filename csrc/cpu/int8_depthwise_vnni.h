// The depthwise convolution for processors with AVX512-VNNI.
#pragma once

#include <algorithm>
#include <array>
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
      : count_(columns * group.quads), rows_(group.rows) {
    const int64_t blocks = (shape.channels + block_size - 1) / block_size;
    start_.resize(blocks * block_size);
    weights_.reserve(blocks * count_ * rows_ * block_bytes);
    for (int64_t i = 0; i < blocks * count_ * rows_ * block_bytes; ++i) {
      const int64_t slot = i % quad_rows, row = i / block_bytes % rows_;
      const int64_t tap = i / block_bytes / rows_ % count_;
      const int64_t block = i / block_bytes / rows_ / count_;
      const int64_t element = block * block_size + i % block_bytes / quad_rows;
      const int64_t channel = lane_order_channel(element);
      const int64_t x = tap / group.quads;
      const int64_t y = tap % group.quads * quad_rows + slot - row * group.row_step;
      const bool exists = channel < shape.channels && 0 <= y && y < shape.kernel[0];
      weights_.push_back(exists ? weight[(y * columns + x) * shape.channels + channel] : 0);
      if (row == 0) start_[element] -= zero_point * weights_.back();
    }
  }

  // The taps of one block of channels whose quads are at `offsets` of `data`.
  Taps of_block(int64_t block, const uint8_t* data, const int64_t* offsets) const {
    return {data, offsets, count_, weights_.data() + block * count_ * rows_ * block_bytes,
            start_.data() + block * block_size};
  }

 private:
  int64_t count_, rows_;
  AlignedVector<int8_t> weights_;
  AlignedVector<int32_t> start_;
};

// A layer's numbers as the loops read them.
struct PackedDepthwise {
  RowGroup group;
  int64_t blocks;
  PackedTaps fine;
  std::optional<PackedTaps> coarse;
  std::vector<uint8_t> zeros;  // A pixel of them.
  // In lane order, and in steps of the output.
  AlignedVector<float> scale, bias, coarse_scale;
  bool fits = true;  // The steps of every possible sum fit int32.

  explicit PackedDepthwise(const DepthwiseLayer& layer)
      : group(layer.shape),
        blocks((layer.shape.channels + block_size - 1) / block_size),
        fine(layer.weight, layer.shape, layer.shape.kernel[1], group, layer.input_zero_point),
        zeros(blocks * block_size, static_cast<uint8_t>(layer.input_zero_point)),
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

// One call's images, and where it works.
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
        kernels_(tile_kernels(packed.group.rows, packed.coarse.has_value())),
        stretch_(stretch()),
        columns_(layer.shape, packed.group.quads, stretch_, {packed.zeros.data(), 0}),
        rows_(packed.group.quads * quad_rows) {}

  // Chooses the group of output rows of `image` that begins with row `y`.
  void choose_rows(int64_t image, int64_t y) {
    const DepthwiseShape& shape = layer_.shape;
    const int64_t used = (packed_.group.rows - 1) * packed_.group.row_step + shape.kernel[0];
    for (int64_t i = 0; i < std::ssize(rows_); ++i) {
      const int64_t row = y * shape.stride[0] - shape.padding[0] + i * shape.dilation[0];
      if (i < used && 0 <= row && row < input_.height) {
        const int64_t pixel = (image * input_.height + row) * input_.width;
        rows_[i] = {input_.data + pixel * input_.stride, input_.stride};
      } else {
        rows_[i] = {packed_.zeros.data(), 0};
      }
    }
    first_pixel_ = (image * output_.height + y) * output_.width;
    output_rows_ = std::min(packed_.group.rows, output_.height - y);
  }

  // One block of channels of the chosen rows.
  void run(int64_t block) {
    const Taps fine = packed_.fine.of_block(block, columns_.data(), columns_.offsets());
    Taps coarse{};
    if (packed_.coarse) {
      const int64_t centre = layer_.shape.kernel[1] / 2 * packed_.group.quads;
      coarse = packed_.coarse->of_block(block, columns_.data(), columns_.offsets() + centre);
    }
    const int64_t channel = block * block_size;
    for (int64_t left = 0; left < output_.width; left += stretch_) {
      const int64_t first = left * layer_.shape.stride[1] - layer_.shape.padding[1];
      const int64_t outputs = std::min(stretch_, output_.width - left);
      columns_.fill(rows_.data(), channel, first, input_.width, outputs);
      if (only_scales_) {
        write_levels(fine, coarse, first_pixel_ + left, outputs, channel);
      } else {
        write_finished(fine, coarse, first_pixel_ + left, outputs, channel);
      }
    }
  }

 private:
  // The outputs of a row whose quads are interleaved together: such that they stay in the L1 cache.
  int64_t stretch() const {
    constexpr int64_t fitting_blocks = 64;
    const DepthwiseShape& shape = layer_.shape;
    const int64_t reach = (shape.kernel[1] - 1) * shape.dilation[1];
    const int64_t fitting = (fitting_blocks / packed_.group.quads - reach) / shape.stride[1];
    const int64_t pixels = kernels_.front().pixels;
    return std::min(output_.width, std::max(fitting / pixels, int64_t{1}) * pixels);
  }

  void write_levels(Taps fine, Taps coarse, int64_t pixel, int64_t outputs, int64_t channel) const {
    const int64_t missing = std::max<int64_t>(channel + block_size - layer_.shape.channels, 0);
    const StepScales scales{packed_.scale.data() + channel, packed_.bias.data() + channel,
                            packed_.coarse_scale.data() + channel};
    LevelRows rows{.levels = output_.levels + pixel * output_.stride + channel,
                   .stride = output_.stride,
                   .row_stride = output_.width * output_.stride,
                   .rows = output_rows_,
                   .channels = ~uint64_t{0} >> missing,
                   .zero_point = static_cast<int16_t>(epilogue_.zero_point),
                   .lowest = static_cast<uint8_t>(epilogue_.lowest),
                   .highest = static_cast<uint8_t>(epilogue_.highest)};
    for (const TileKernels& kernels : kernels_) {
      const int64_t tiles = outputs / kernels.pixels;
      kernels.to_levels(fine, coarse, scales, rows, tiles);
      fine.advance(tiles * kernels.pixels);
      coarse.advance(tiles * kernels.pixels);
      rows.levels += tiles * kernels.pixels * rows.stride;
      outputs -= tiles * kernels.pixels;
    }
  }

  void write_finished(Taps fine, Taps coarse, int64_t pixel, int64_t outputs,
                      int64_t channel) const {
    for (const TileKernels& kernels : kernels_) {
      for (; outputs >= kernels.pixels; outputs -= kernels.pixels, pixel += kernels.pixels) {
        finish_tile(kernels, fine, coarse, pixel, channel);
        fine.advance(kernels.pixels);
        coarse.advance(kernels.pixels);
      }
    }
  }

  void finish_tile(const TileKernels& kernels, const Taps& fine, const Taps& coarse, int64_t pixel,
                   int64_t channel) const {
    const int64_t channels = std::min(block_size, layer_.shape.channels - channel);
    alignas(vector_bytes) int32_t sums[max_tile_outputs * block_size];
    alignas(vector_bytes) int32_t coarse_sums[max_tile_outputs * block_size];
    float extra[max_tile_outputs * block_size];
    kernels.to_sums(fine, sums);
    if (packed_.coarse) {
      kernels.to_sums(coarse, coarse_sums);
      for (int64_t i = 0; i < output_rows_ * kernels.pixels * block_size; i += block_size) {
        portable::scale_sums(coarse_sums + i, layer_.coarse_scale.data() + channel, channels,
                             extra + i);
      }
    }
    const auto at = [channel](auto* image, int64_t pixel, int64_t stride) {
      return image == nullptr ? nullptr : image + pixel * stride + channel;
    };
    for (int64_t row = 0; row < output_rows_; ++row, pixel += output_.width) {
      const int64_t first = row * kernels.pixels * block_size;
      avx512::finish({.sums = sums + first,
                      .extra = packed_.coarse ? extra + first : nullptr,
                      .stride = block_size,
                      .pixels = kernels.pixels,
                      .channels = channels,
                      .first_channel = channel,
                      .addend = at(output_.addend, pixel, output_.addend_stride),
                      .addend_stride = output_.addend_stride,
                      .levels = at(output_.levels, pixel, output_.stride),
                      .values = at(output_.values, pixel, output_.stride),
                      .output_stride = output_.stride},
                     epilogue_);
    }
  }

  const DepthwiseLayer& layer_;
  const PackedDepthwise& packed_;
  const InputImage& input_;
  const LayerOutput& output_;
  Epilogue epilogue_;
  bool only_scales_;
  std::array<TileKernels, 3> kernels_;
  int64_t stretch_;
  QuadColumns columns_;
  std::vector<PixelRow> rows_;
  int64_t first_pixel_ = 0, output_rows_ = 0;
};

// A task is a group of rows of one block of channels.
inline void depthwise(const DepthwiseLayer& layer, const PackedDepthwise& packed,
                      const InputImage& input, const LayerOutput& output, int64_t first,
                      int64_t last) {
  DepthwiseRun run(layer, packed, input, output);
  const int64_t groups = packed.groups(output.height);
  while (first < last) {
    const int64_t group = first / packed.blocks;
    run.choose_rows(group / groups, group % groups * packed.group.rows);
    const int64_t next_group = std::min((group + 1) * packed.blocks, last);
    for (; first < next_group; ++first) run.run(first - group * packed.blocks);
  }
}

}  // namespace repq_fx::avx512
#endif

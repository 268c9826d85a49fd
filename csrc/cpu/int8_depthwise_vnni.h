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
  int64_t quads, rows, row_step, first_centre;

  explicit RowGroup(const DepthwiseShape& shape)
      : quads((shape.kernel[0] + quad_rows - 1) / quad_rows),
        rows(shape.dilation[0] > 1
                 ? 1
                 : std::min((quads * quad_rows - shape.kernel[0]) / shape.stride[0] + 1,
                            max_tile_rows)),
        row_step(shape.stride[0]),
        first_centre(shape.kernel[0] / 2) {}

  // The input row that the kernel's centre meets at output row `row`.
  int64_t centre(int64_t row) const { return row * row_step + first_centre; }
};

// Weights in the order of `Taps` or `CoarseTap`, and what the sums start with: minus the share of
// the input's zero point.
struct PackedWeights {
  AlignedVector<int8_t> weights;
  AlignedVector<int32_t> start;

  // Of a block, [taps][group rows] blocks. `weight(channel, row, tap, slot)` is that of a slot of a
  // tap's quad.
  template <typename Weight>
  PackedWeights(int64_t channels, int64_t taps, int64_t rows, int32_t zero_point,
                const Weight& weight) {
    const int64_t blocks = (channels + block_size - 1) / block_size;
    start.resize(blocks * block_size, 0);
    weights.reserve(blocks * taps * rows * block_bytes);
    for (int64_t i = 0; i < blocks * taps * rows * block_size; ++i) {
      const int64_t row = i / block_size % rows, tap = i / block_size / rows % taps;
      const int64_t element = i / block_size / rows / taps * block_size + i % block_size;
      const int64_t channel = lane_order_channel(element);
      for (int64_t slot = 0; slot < quad_rows; ++slot) {
        weights.push_back(channel < channels ? weight(channel, row, tap, slot) : 0);
        if (row == 0) start[element] -= zero_point * weights.back();
      }
    }
  }
};

inline PackedWeights pack_fine(const DepthwiseLayer& layer, const RowGroup& group) {
  const auto& [channels, kernel, stride, padding, dilation] = layer.shape;
  const auto weight = [&](int64_t channel, int64_t row, int64_t tap, int64_t slot) -> int8_t {
    const int64_t x = tap / group.quads;
    const int64_t y = tap % group.quads * quad_rows + slot - row * group.row_step;
    if (y < 0 || y >= kernel[0]) return 0;
    return layer.weight[(y * kernel[1] + x) * channels + channel];
  };
  return {channels, kernel[1] * group.quads, group.rows, layer.input_zero_point, weight};
}

inline PackedWeights pack_coarse(const DepthwiseLayer& layer, const RowGroup& group) {
  const auto weight = [&](int64_t channel, int64_t row, int64_t, int64_t slot) -> int8_t {
    return slot == group.centre(row) % quad_rows ? layer.coarse[channel] : 0;
  };
  return {layer.shape.channels, 1, group.rows, layer.input_zero_point, weight};
}

// A layer's numbers as the loops read them.
struct PackedDepthwise {
  RowGroup group;
  int64_t blocks, taps;
  PackedWeights fine;
  std::optional<PackedWeights> coarse;
  // In lane order, and in steps of the output.
  AlignedVector<float> scale, bias, coarse_scale;
  bool fits = true;  // The steps of every possible sum fit int32.

  explicit PackedDepthwise(const DepthwiseLayer& layer)
      : group(layer.shape),
        blocks((layer.shape.channels + block_size - 1) / block_size),
        taps(layer.shape.kernel[1] * group.quads),
        fine(pack_fine(layer, group)),
        scale(in_steps(layer, layer.scale)),
        bias(in_steps(layer, layer.bias)) {
    if (!layer.coarse.empty()) {
      coarse = pack_coarse(layer, group);
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
    AlignedVector<float> steps(blocks * block_size, 0);
    for (size_t i = 0; i < steps.size(); ++i) {
      const size_t channel = lane_order_channel(i);
      if (channel < values.size()) steps[i] = values[channel] * layer.settings.inverse_scale;
    }
    return steps;
  }
};

// Neighbouring outputs are worked on in tiles of one size, and then in some that are smaller by
// one.
struct Tiles {
  int64_t pixels, count;
  TileKernels kernels;
};

inline std::array<Tiles, 2> split_into_tiles(int64_t outputs, int64_t rows, bool has_coarse) {
  const int64_t count = (outputs + max_tile_pixels(rows) - 1) / max_tile_pixels(rows);
  const int64_t pixels = (outputs + count - 1) / count;
  const int64_t large = outputs - count * (pixels - 1);
  return {Tiles{pixels, large, tile_kernels(rows, pixels, has_coarse)},
          Tiles{pixels - 1, count - large, tile_kernels(rows, pixels - 1, has_coarse)}};
}

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
        stretch_(stretch()),
        tiles_(split_into_tiles(stretch_, packed.group.rows, packed.coarse.has_value())),
        last_tiles_(split_into_tiles((output.width - 1) % stretch_ + 1, packed.group.rows,
                                     packed.coarse.has_value())),
        columns_(layer.shape, packed.group.quads, stretch_,
                 static_cast<uint8_t>(layer.input_zero_point)),
        rows_(packed.group.quads * quad_rows) {
    for (int64_t row = 0; row < packed.group.rows; ++row) {
      centre_offsets_[row] = columns_.offsets()[layer.shape.kernel[1] / 2 * packed.group.quads +
                                                packed.group.centre(row) / quad_rows];
    }
  }

  // Chooses the group of output rows of `image` that begins with row `y`.
  void choose_rows(int64_t image, int64_t y) {
    const DepthwiseShape& shape = layer_.shape;
    const int64_t used = (packed_.group.rows - 1) * packed_.group.row_step + shape.kernel[0];
    for (int64_t i = 0; i < std::ssize(rows_); ++i) {
      const int64_t row = y * shape.stride[0] - shape.padding[0] + i * shape.dilation[0];
      if (i >= used) {
        rows_[i] = rows_[0];  // Meets weights of zero.
      } else if (row < 0 || row >= input_.height) {
        rows_[i] = row_of_zeros();
      } else {
        rows_[i] = input_.data + (image * input_.height + row) * input_.width * input_.stride;
      }
    }
    first_pixel_ = (image * output_.height + y) * output_.width;
    output_rows_ = std::min(packed_.group.rows, output_.height - y);
  }

  // One block of channels of the chosen rows.
  void run(int64_t block) {
    const Taps fine{
        columns_.data(), columns_.offsets(), packed_.taps,
        packed_.fine.weights.data() + block * packed_.taps * packed_.group.rows * block_bytes,
        packed_.fine.start.data() + block * block_size};
    CoarseTap coarse{};
    if (packed_.coarse) {
      coarse = {columns_.data(), centre_offsets_.data(),
                packed_.coarse->weights.data() + block * packed_.group.rows * block_bytes,
                packed_.coarse->start.data() + block * block_size};
    }
    const int64_t channel = block * block_size;
    for (int64_t left = 0; left < output_.width; left += stretch_) {
      const int64_t first = left * layer_.shape.stride[1] - layer_.shape.padding[1];
      const int64_t outputs = std::min(stretch_, output_.width - left);
      const auto& tiles = outputs == stretch_ ? tiles_ : last_tiles_;
      columns_.fill(rows_.data(), channel, input_.stride, input_.width, first, outputs);
      if (only_scales_) {
        write_levels(tiles, fine, coarse, first_pixel_ + left, channel);
      } else {
        write_finished(tiles, fine, coarse, first_pixel_ + left, channel);
      }
    }
  }

 private:
  // The outputs of a row whose quads are interleaved together: such that they stay in the L1 cache.
  int64_t stretch() const {
    constexpr int64_t fitting_blocks = 48;
    const DepthwiseShape& shape = layer_.shape;
    const int64_t reach = (shape.kernel[1] - 1) * shape.dilation[1];
    const int64_t fitting = (fitting_blocks / packed_.group.quads - reach) / shape.stride[1];
    const int64_t pixels = max_tile_pixels(packed_.group.rows);
    return std::min(output_.width, std::max(fitting / pixels, int64_t{1}) * pixels);
  }

  const uint8_t* row_of_zeros() {
    if (zeros_.empty()) {
      zeros_.assign(input_.width * input_.stride + read_slack,
                    static_cast<uint8_t>(layer_.input_zero_point));
    }
    return zeros_.data();
  }

  void write_levels(const std::array<Tiles, 2>& tiles, Taps fine, CoarseTap coarse, int64_t pixel,
                    int64_t channel) const {
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
    for (const auto& [pixels, count, kernels] : tiles) {
      kernels.to_levels(fine, coarse, scales, rows, count);
      fine.advance(count * pixels);
      coarse.advance(count * pixels);
      rows.levels += count * pixels * rows.stride;
    }
  }

  void write_finished(const std::array<Tiles, 2>& tiles, Taps fine, CoarseTap coarse, int64_t pixel,
                      int64_t channel) const {
    for (const auto& [pixels, count, kernels] : tiles) {
      for (int64_t i = 0; i < count; ++i, pixel += pixels) {
        finish_tile(kernels, pixels, fine, coarse, pixel, channel);
        fine.advance(pixels);
        coarse.advance(pixels);
      }
    }
  }

  void finish_tile(const TileKernels& kernels, int64_t pixels, const Taps& fine,
                   const CoarseTap& coarse, int64_t pixel, int64_t channel) const {
    const int64_t channels = std::min(block_size, layer_.shape.channels - channel);
    alignas(vector_bytes) int32_t sums[max_tile_outputs * block_size];
    alignas(vector_bytes) int32_t coarse_sums[max_tile_outputs * block_size];
    float extra[max_tile_outputs * block_size];
    kernels.to_sums(fine, sums);
    if (packed_.coarse) {
      kernels.coarse_to_sums(coarse, coarse_sums);
      for (int64_t i = 0; i < output_rows_ * pixels * block_size; i += block_size) {
        portable::scale_sums(coarse_sums + i, layer_.coarse_scale.data() + channel, channels,
                             extra + i);
      }
    }
    const auto at = [channel](auto* image, int64_t pixel, int64_t stride) {
      return image == nullptr ? nullptr : image + pixel * stride + channel;
    };
    for (int64_t row = 0; row < output_rows_; ++row, pixel += output_.width) {
      const int64_t first = row * pixels * block_size;
      avx512::finish({.sums = sums + first,
                      .extra = packed_.coarse ? extra + first : nullptr,
                      .stride = block_size,
                      .pixels = pixels,
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
  int64_t stretch_;
  std::array<Tiles, 2> tiles_, last_tiles_;  // Of a stretch, and of the last one.
  QuadColumns columns_;
  std::array<int64_t, max_tile_rows> centre_offsets_{};
  std::vector<const uint8_t*> rows_;
  std::vector<uint8_t> zeros_;
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

// The weights of a depthwise convolution in the order in which the loops for AVX512-VNNI read them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/int8/avx512_vnni/aligned_vector.h"
#include "cpu/int8/avx512_vnni/depthwise/tiles.h"
#include "cpu/int8/avx512_vnni/output_steps.h"
#include "cpu/int8/channel_numbers.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::depthwise {

// How the output rows of a layer are grouped: where neither stride nor dilation spread them, rows
// share the quads of their input rows. The four rows of a quad serve two outputs of a 3x3 kernel.
struct RowGroup {
  int64_t quads, rows, row_step, first_centre;

  explicit RowGroup(const ConvolutionShape& shape)
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

// Channels that are worked on together. Where they are few, a vector's bytes are shared by the same
// channels of a stack of two or four row groups.
struct ChannelBlock {
  int64_t first, channels, stack;

  // The channel of element `i` in lane order; -1 where there is none.
  int64_t channel(int64_t i) const {
    const int64_t channel = lane_order_byte(i) % (block_size / stack);
    return channel < channels ? first + channel : -1;
  }
};

inline std::vector<ChannelBlock> split_into_blocks(int64_t channels) {
  std::vector<ChannelBlock> blocks;
  for (int64_t first = 0; first < channels;) {
    const int64_t remaining = channels - first;
    const int64_t stack = remaining > 32 ? 1 : remaining > 16 ? 2 : 4;
    blocks.push_back({first, std::min(remaining, block_size / stack), stack});
    first += blocks.back().channels;
  }
  return blocks;
}

// Weights in the order of `Taps` or `CoarseTap`, and what the sums start with: minus the share of
// the input's zero point.
struct PackedWeights {
  AlignedVector<int8_t> weights;  // [blocks][taps][group rows] blocks
  AlignedVector<int32_t> start;   // [blocks] blocks

  // `weight(channel, row, tap, slot)` is that of a slot of a tap's quad.
  template <typename Weight>
  PackedWeights(const std::vector<ChannelBlock>& blocks, int64_t taps, int64_t rows,
                int32_t zero_point, const Weight& weight)
      : start(blocks.size() * block_size, 0) {
    weights.reserve(blocks.size() * taps * rows * block_bytes);
    for (size_t block = 0; block < blocks.size(); ++block) {
      for (int64_t i = 0; i < taps * rows * block_size; ++i) {
        const int64_t tap = i / block_size / rows, row = i / block_size % rows;
        const int64_t channel = blocks[block].channel(i % block_size);
        for (int64_t slot = 0; slot < quad_rows; ++slot) {
          weights.push_back(channel < 0 ? 0 : weight(channel, row, tap, slot));
          if (row == 0) start[block * block_size + i % block_size] -= zero_point * weights.back();
        }
      }
    }
  }
};

// A layer's numbers as the loops read them.
struct PackedLayer {
  RowGroup group;
  std::vector<ChannelBlock> blocks;
  int64_t stack = 1;  // The largest of a block.
  int64_t taps;
  PackedWeights fine;
  std::optional<PackedWeights> coarse;
  // Of blocks in lane order, in steps of the output; and the unit of a step.
  AlignedVector<float> scale, bias, coarse_scale, unit;
  bool only_rounds = false;  // Levels are rounded from registers, where nothing is added.

  PackedLayer(const LayerWeights& layer_weights, const Layer& layer)
      : group(layer.shape),
        blocks(split_into_blocks(layer.shape.out_channels)),
        taps(layer.shape.kernel[1] * group.quads),
        fine(pack_fine(layer_weights.fine, layer)) {
    const OutputSteps steps(layer.function, layer.output);
    scale = in_lane_order(layer.scale, steps.per_real);
    bias = in_lane_order(layer.bias, steps.per_real);
    unit = in_lane_order(std::vector<float>(layer.shape.out_channels, 1), steps.unit);
    for (const ChannelBlock& block : blocks) stack = std::max(stack, block.stack);
    if (layer_weights.coarse != nullptr) {
      coarse = pack_coarse(layer_weights.coarse, layer);
      coarse_scale = in_lane_order(layer.coarse_scale, steps.per_real);
    }
    const float largest_sum = static_cast<float>(layer.shape.taps()) * 255 * 128;
    only_rounds = steps.suffice;
    for (size_t i = 0; i < scale.size(); ++i) {
      float most = largest_sum * std::abs(scale[i]) + std::abs(bias[i]);
      if (coarse) most += 255 * 128 * std::abs(coarse_scale[i]);
      only_rounds = only_rounds && most < 0x1p31f;  // So that the steps of all sums fit int32.
    }
  }

  // The output rows of a task.
  int64_t task_rows() const { return stack * group.rows; }

 private:
  PackedWeights pack_fine(const int8_t* weights, const Layer& layer) const {
    const auto& kernel = layer.shape.kernel;
    const auto weight = [&](int64_t channel, int64_t row, int64_t tap, int64_t slot) -> int8_t {
      const int64_t x = tap / group.quads;
      const int64_t y = tap % group.quads * quad_rows + slot - row * group.row_step;
      if (y < 0 || y >= kernel[0]) return 0;
      return weights[(channel * kernel[0] + y) * kernel[1] + x];
    };
    return {blocks, taps, group.rows, layer.input_zero_point, weight};
  }

  PackedWeights pack_coarse(const int8_t* weights, const Layer& layer) const {
    const auto weight = [&](int64_t channel, int64_t row, int64_t, int64_t slot) -> int8_t {
      return slot == group.centre(row) % quad_rows ? weights[channel] : 0;
    };
    return {blocks, 1, group.rows, layer.input_zero_point, weight};
  }

  AlignedVector<float> in_lane_order(const std::vector<float>& values,
                                     const ChannelNumbers& factor) const {
    AlignedVector<float> ordered;
    for (const ChannelBlock& block : blocks) {
      for (int64_t i = 0; i < block_size; ++i) {
        const int64_t channel = block.channel(i);
        ordered.push_back(channel < 0 ? 0 : values[channel] * factor[channel]);
      }
    }
    return ordered;
  }
};

}  // namespace repq_fx::avx512_vnni::depthwise

// The weights of a convolution in the order in which `products.h` reads them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/int8/avx512_vnni/convolution/products.h"
#include "cpu/int8/channel_numbers.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::convolution {

// 4 input channels of 16 output channels.
struct alignas(64) WeightVector {
  int8_t values[vector_channels][quad_channels];
};

// Output channels that are computed together.
struct ChannelBlock {
  int64_t first, channels;  // Of the output.
  int64_t vectors;
  int64_t padded_first;  // The first channel if all blocks before are padded to whole vectors.
  int64_t first_input;   // The group's first input channel.
};

// How the channels of a layer are divided into blocks. Groups of few output channels are joined to
// fill a register: the weights between them are zeros.
class ChannelLayout {
 public:
  explicit ChannelLayout(const ConvolutionShape& shape)
      : group_inputs_(shape.group_inputs()), group_outputs_(shape.group_outputs()) {
    const int64_t groups = shape.groups;
    joined_ = std::clamp<int64_t>(vector_channels / group_outputs_, 1, groups);
    while (groups % joined_ != 0) --joined_;
    const int64_t outputs = joined_ * group_outputs_;
    const int64_t vectors = (outputs + vector_channels - 1) / vector_channels;
    const int64_t fitting = block_bytes / (shape.taps() * quads() * int64_t{sizeof(WeightVector)});
    const int64_t most = std::clamp<int64_t>(fitting, 1, max_vectors);
    const int64_t parts = (vectors + most - 1) / most;
    for (int64_t group = 0; group < groups / joined_; ++group) {
      for (int64_t part = 0; part < parts; ++part) {
        // The larger parts come first.
        const int64_t end = (vectors * (part + 1) + parts - 1) / parts;
        const int64_t begin = (vectors * part + parts - 1) / parts;
        const int64_t channels = std::min(end * vector_channels, outputs) - begin * vector_channels;
        blocks_.push_back({group * outputs + begin * vector_channels, channels, end - begin,
                           padded_channels_, group * joined_ * group_inputs_});
        padded_channels_ += (end - begin) * vector_channels;
      }
    }
  }

  const std::vector<ChannelBlock>& blocks() const { return blocks_; }
  int64_t group_inputs() const { return group_inputs_; }
  int64_t padded_channels() const { return padded_channels_; }
  int64_t quads() const { return (joined_ * group_inputs_ + quad_channels - 1) / quad_channels; }
  // The first input channel of an output channel's group, in the joined groups.
  int64_t first_input(int64_t channel) const {
    return channel / group_outputs_ % joined_ * group_inputs_;
  }

  // A value for each output channel, padded with zeros.
  std::vector<float> pad(const std::vector<float>& values, const ChannelNumbers& factor) const {
    std::vector<float> padded(padded_channels_);
    for (const ChannelBlock& block : blocks_) {
      for (int64_t c = 0; c < block.channels; ++c) {
        padded[block.padded_first + c] = values[block.first + c] * factor[block.first + c];
      }
    }
    return padded;
  }

 private:
  // Of weights, so that two blocks fit L2: one is fetched while the other is used.
  static constexpr int64_t block_bytes = 384 << 10;

  int64_t group_inputs_, group_outputs_;
  int64_t joined_;
  int64_t padded_channels_ = 0;
  std::vector<ChannelBlock> blocks_;
};

class PackedWeights {
 public:
  // weight: [out_channels][group_inputs][taps]
  PackedWeights(const ChannelLayout& layout, const int8_t* weight, int64_t taps,
                int32_t input_zero_point)
      : block_rows_(taps * layout.quads()),
        vectors_(layout.padded_channels() / vector_channels * block_rows_),
        start_(layout.padded_channels()) {
    const int64_t inputs = layout.group_inputs();
    for (const ChannelBlock& block : layout.blocks()) {
      WeightVector* packed = vectors_.data() + first_vector(block);
      for (int64_t c = 0; c < block.channels; ++c) {
        const int8_t* w = weight + (block.first + c) * inputs * taps;
        int32_t sum = 0;
        for (int64_t i = 0; i < inputs; ++i) {
          const int64_t input = layout.first_input(block.first + c) + i;
          for (int64_t tap = 0; tap < taps; ++tap, ++w) {
            const int64_t row = tap * layout.quads() + input / quad_channels;
            WeightVector& vector = packed[row * block.vectors + c / vector_channels];
            vector.values[c % vector_channels][input % quad_channels] = *w;
            sum += *w;
          }
        }
        // sum w (x - z) = sum w x - z sum w.
        start_[block.padded_first + c] = -input_zero_point * sum;
      }
    }
  }

  WeightBlock block(const ChannelBlock& block) const {
    const int8_t* weights = vectors_[first_vector(block)].values[0];
    return {weights, start_.data() + block.padded_first, block.vectors, block.first_input};
  }

  // Bytes of one vector of output channels.
  int64_t vector_bytes() const { return block_rows_ * sizeof(WeightVector); }
  int64_t bytes() const { return vectors_.size() * sizeof(WeightVector); }

 private:
  int64_t first_vector(const ChannelBlock& block) const {
    return block.padded_first / vector_channels * block_rows_;
  }

  int64_t block_rows_;  // Taps and quads: the vectors of 16 output channels.
  std::vector<WeightVector> vectors_;
  std::vector<int32_t> start_;
};

}  // namespace repq_fx::avx512_vnni::convolution

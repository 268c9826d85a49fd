// The one order in which kernels sum over a tensor per channel, on every device and for any number
// of threads; `channel_sums` in repq_fx/ops/reference/block_sum.py is its reference.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "common/channel_runs.h"
#include "common/host_device.h"

namespace repq_fx {

// The memory of a dense tensor is a sequence of segments: the whole tensor if all values share a
// channel or if channels are innermost, else the runs of values that share one. A segment is read
// in rows of `lanes` values and cut into blocks of `block_rows` rows, the last of them shorter. Of
// a block each lane is summed from the first row to the last; then the lanes of a channel, and then
// the blocks of a channel, are summed by `tree_sum`. All sums are float64.
struct Blocks {
  int64_t channels;
  int64_t segment;      // Values of a segment.
  int64_t width;        // Channels of a segment: 1, or all.
  int64_t lanes;        // A multiple of `width`.
  int64_t size;         // Values of a block, except for the last one of a segment.
  int64_t per_segment;  // Blocks of a segment.
  int64_t count;        // Blocks of the tensor.

  // Of the first value of a block.
  REPQ_FX_HOST_DEVICE int64_t begin(int64_t block) const {
    return block / per_segment * segment + block % per_segment * size;
  }
  REPQ_FX_HOST_DEVICE int64_t end(int64_t block) const {
    const int64_t full = begin(block) + size, last = (block / per_segment + 1) * segment;
    return full < last ? full : last;
  }
  REPQ_FX_HOST_DEVICE int64_t channel(int64_t block) const {
    return width > 1 ? 0 : block / per_segment % channels;
  }
  // How often the channels are repeated in a row.
  int64_t repeats() const { return lanes / width; }
  // The sums of blocks form a matrix of `rows()` times `channels`; this is where a block's begin.
  REPQ_FX_HOST_DEVICE int64_t sum_index(int64_t block) const {
    if (width > 1) return block * channels;
    const int64_t run = block / per_segment;
    return (run / channels * per_segment + block % per_segment) * channels + run % channels;
  }
  REPQ_FX_HOST_DEVICE int64_t rows() const { return count * width / channels; }
};

constexpr int64_t min_lanes = 128;
constexpr int64_t block_rows = 32;

// For a tensor that is not empty.
inline Blocks channel_blocks(const at::Tensor& dense, std::optional<int64_t> axis) {
  const auto [run, channels] = channel_runs(dense, axis);
  Blocks blocks{};
  blocks.channels = channels;
  blocks.width = run == 1 ? blocks.channels : 1;
  blocks.segment = blocks.width > 1 ? dense.numel() : run;
  blocks.lanes = blocks.width * std::max<int64_t>(1, min_lanes / blocks.width);
  blocks.size = blocks.lanes * block_rows;
  blocks.per_segment = (blocks.segment + blocks.size - 1) / blocks.size;
  blocks.count = dense.numel() / blocks.segment * blocks.per_segment;
  return blocks;
}

// Adds `count` rows of `width` values into the first of them: while several are left, the second
// half onto the first.
inline void tree_sum(double* rows, int64_t count, int64_t width) {
  while (count > 1) {
    const int64_t half = (count + 1) / 2;
    for (int64_t i = 0; i < (count - half) * width; ++i) rows[i] += rows[i + half * width];
    count = half;
  }
}

}  // namespace repq_fx

#pragma once

#include <algorithm>
#include <cstdint>

#include "common/blocks.h"

namespace repq_fx {

constexpr int64_t piece_size = 4096;  // Values at once, so that buffers stay in the L1 cache.

// Consecutive values: whole rows of `lanes` values, or a part of one row.
struct Piece {
  int64_t begin;
  int64_t size;
  int64_t lanes;
  int64_t lane;     // Of the first value.
  int64_t channel;  // Of the first lane, in `ChannelGrids`.
};

// Calls `process` with the pieces of a block, in order.
template <typename Process>
void for_each_piece(const Blocks& blocks, int64_t block, const Process& process) {
  const int64_t begin = blocks.begin(block), end = blocks.end(block), lanes = blocks.lanes;
  const int64_t whole_rows = piece_size / lanes * lanes;
  for (int64_t i = begin, next; i < end; i = next) {
    const int64_t lane = (i - begin) % lanes;
    next = std::min(
        {end, i + (whole_rows ? whole_rows : piece_size), whole_rows ? end : i - lane + lanes});
    const int64_t channel = blocks.width > 1 ? lane : blocks.channel(block);
    process(Piece{i, next - i, std::min(lanes, next - i), lane, channel});
  }
}

// Blocks that pay for waking a thread.
inline int64_t block_grain(const Blocks& blocks) {
  return std::max<int64_t>(1, (1 << 15) / std::min(blocks.segment, blocks.size));
}

}  // namespace repq_fx

// The counts of one row of values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "common/update_histogram.h"
#include "cpu/loops/block_bins.h"

namespace repq_fx {

// The counts over bins that are `2**doublings` times as wide, in place.
inline void merge_bins(int64_t* counts, int64_t side, int doublings) {
  if (doublings == 0) return;
  const int shift = std::min(doublings, 62);
  int64_t* const above = counts + side;
  int64_t* const below = above - 1;
  // From zero outwards, so that nothing is moved twice.
  for (int64_t i = 1; i < side; ++i) {
    above[i >> shift] += std::exchange(above[i], 0);
    below[-(i >> shift)] += std::exchange(below[-i], 0);
  }
}

struct RowSummary {
  int exponent;
  float lowest = std::numeric_limits<float>::infinity();
  float highest = -std::numeric_limits<float>::infinity();
  int64_t zeros = 0;
  int64_t non_finite = 0;

  // The first bin that holds a value, and the one behind the last, counted from the lowest of all.
  std::pair<int, int> bins(int side) const {
    if (!(lowest <= highest) || non_finite > 0) return {0, 0};
    const PowerOfTwoBins grid{side, exponent};
    return {side + grid.bin(lowest), side + grid.bin(highest) + 1};
  }

  void include(const RowSummary& other) {
    exponent = std::max(exponent, other.exponent);
    lowest = std::min(lowest, other.lowest);
    highest = std::max(highest, other.highest);
    zeros += other.zeros;
    non_finite += other.non_finite;
  }
};

// Counts values into bins that double in width as the values need.
class RowCounter {
 public:
  // `counts`, all zero, holds the counts after `finish`.
  RowCounter(PowerOfTwoBins bins, int64_t* counts)
      : side_(bins.side),
        counts_(counts),
        counters_(counter_lanes * lane_stride()),
        slots_(2 * slot_capacity),
        scale_{bins.inverse_width(), bins.span()},
        summary_{bins.exponent} {
    ranges_.lowest.fill(summary_.lowest);
    ranges_.highest.fill(summary_.highest);
  }

  // Counts at most `block_size` values.
  void add(const float* values, int size) {
    BlockBins found = find(values, size);
    if (!found.fit) {
      const BlockRange range = block_range(values, size);
      if (range.non_finite > 0) {  // The counts will not be used.
        summary_.include({summary_.exponent, range.lowest, range.highest, 0, range.non_finite});
        return;
      }
      widen(exponent_for(std::max(-range.lowest, range.highest), side_));
      found = find(values, size);
    }
    summary_.zeros += found.zeros;
    counts_[side_] += size - found.slots;
    waiting_ = found.slots;
    filling_ ^= 1;
    room_ -= size;
    if (room_ < block_size) flush();
  }

  RowSummary finish() {
    flush();
    summary_.lowest += 0.0f;  // Makes 0 of -0.
    summary_.highest += 0.0f;
    return summary_;
  }

 private:
  // Not a multiple of a page: loads of one lane would wait for stores to the other.
  int64_t lane_stride() const { return 2 * int64_t{side_} + 16; }
  Counters counters() { return {counters_.data() + side_, lane_stride()}; }
  Slots waiting() const { return {slots_.data() + (filling_ ^ 1) * slot_capacity, waiting_}; }

  // Finds the bins of a block, and counts the block before it meanwhile.
  BlockBins find(const float* values, int size) {
    const BlockBins found =
        find_and_count(values, size, scale_, ranges_, slots_.data() + filling_ * slot_capacity,
                       waiting(), counters());
    waiting_ = 0;
    return found;
  }

  void widen(int exponent) {
    flush();
    merge_bins(counts_, side_, exponent - summary_.exponent);
    summary_.exponent = exponent;
    const PowerOfTwoBins bins{side_, exponent};
    scale_ = {bins.inverse_width(), bins.span()};
  }

  // Empties the 32-bit counters.
  void flush() {
    count_slots(waiting(), counters());
    waiting_ = 0;
    for (int i = 0; i < vector_size; ++i) {
      summary_.lowest = std::min(summary_.lowest, ranges_.lowest[i]);
      summary_.highest = std::max(summary_.highest, ranges_.highest[i]);
    }
    const auto [first, last] = summary_.bins(side_);
    for (int lane = 0; lane < counter_lanes; ++lane) {
      uint32_t* const counters = counters_.data() + lane * lane_stride();
      for (int bin = first; bin < last; ++bin) counts_[bin] += std::exchange(counters[bin], 0);
    }
    room_ = std::numeric_limits<uint32_t>::max();
  }

  int side_;
  int64_t* counts_;
  std::vector<uint32_t> counters_;
  std::vector<int32_t> slots_;  // Of the block being found, and of the one that waits.
  BlockScale scale_;
  LaneRange ranges_;
  int filling_ = 0;
  int waiting_ = 0;
  // Values after which a 32-bit counter could overflow.
  int64_t room_ = std::numeric_limits<uint32_t>::max();
  RowSummary summary_;
};

}  // namespace repq_fx

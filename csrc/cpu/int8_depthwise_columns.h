// The interleaved input of a stretch of an output row.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/int8_depthwise_layer.h"
#include "cpu/int8_depthwise_tile.h"

#ifdef REPQ_FX_AVX512
namespace repq_fx::avx512 {

// Quads are [quads][block vectors][stride][columns] vectors: input columns that a tap meets at
// neighbouring outputs are a stride apart and lie together, so that loops over outputs are the same
// for all strides.
class QuadColumns {
 public:
  // For up to `outputs` neighbouring outputs. All pixels of `outside` are real zeros.
  QuadColumns(const DepthwiseShape& shape, int64_t quads, int64_t outputs, const PixelRow& outside)
      : quads_(quads),
        stride_(shape.stride[1]),
        columns_(outputs + (shape.kernel[1] - 1) * shape.dilation[1] / stride_),
        reach_(stride_, -1),
        data_(quads * block_vectors * plane()) {
    outside_.fill(outside);
    for (int64_t column = 0; column < shape.kernel[1]; ++column) {
      const int64_t phase = column * shape.dilation[1] % stride_;
      reach_[phase] = column * shape.dilation[1] / stride_;
      for (int64_t quad = 0; quad < quads; ++quad) {
        offsets_.push_back(quad * block_vectors * plane() +
                           (phase * columns_ + reach_[phase]) * vector_bytes);
      }
    }
  }

  const uint8_t* data() const { return data_.data(); }
  int64_t plane() const { return stride_ * columns_ * vector_bytes; }
  // [kernel columns][quads]: of the first output's quads.
  const int64_t* offsets() const { return offsets_.data(); }

  // Starts anew with four rows for each quad; the first output's first tap meets column `first`.
  void start(const PixelRow* rows, int64_t first, int64_t width) {
    rows_ = rows;
    first_ = first;
    width_ = width;
    outputs_ = 0;
  }

  // Provides what the outputs before `outputs` meet, of which those of the last call are there.
  void extend(int64_t outputs) {
    for (int64_t phase = 0; phase < stride_; ++phase) {
      if (reach_[phase] < 0) continue;
      const int64_t begin = outputs_ == 0 ? 0 : outputs_ + reach_[phase];
      for (int64_t quad = 0; quad < quads_; ++quad) {
        fill(quad, phase, begin, outputs + reach_[phase]);
      }
    }
    outputs_ = outputs;
  }

 private:
  void fill(int64_t quad, int64_t phase, int64_t begin, int64_t end) {
    const int64_t x = first_ + phase;
    const auto columns_below = [&](int64_t limit) {
      return x >= limit ? 0 : (limit - x + stride_ - 1) / stride_;
    };
    const int64_t inside = std::clamp(columns_below(0), begin, end);
    const int64_t behind = std::clamp(columns_below(width_), inside, end);
    uint8_t* out = data_.data() + quad * block_vectors * plane() + phase * columns_ * vector_bytes;
    const auto at = [&](int64_t column) { return out + column * vector_bytes; };
    interleave(outside_.data(), 0, 0, inside - begin, at(begin), plane());
    interleave(rows_ + quad * quad_rows, x + inside * stride_, stride_, behind - inside, at(inside),
               plane());
    interleave(outside_.data(), 0, 0, end - behind, at(behind), plane());
  }

  int64_t quads_, stride_, columns_;
  std::vector<int64_t>
      reach_;  // Of each phase of the stride: its last column for the first output.
  std::vector<int64_t> offsets_;
  AlignedVector<uint8_t> data_;
  std::array<PixelRow, quad_rows> outside_;
  const PixelRow* rows_ = nullptr;
  int64_t first_ = 0, width_ = 0, outputs_ = 0;
};

}  // namespace repq_fx::avx512
#endif

// The interleaved input of a stretch of an output row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/int8_depthwise_layer.h"
#include "cpu/int8_depthwise_tile.h"

#ifdef REPQ_FX_AVX512
namespace repq_fx::avx512 {

// Quads are [quads][stride][columns] blocks: input columns that a tap meets at neighbouring outputs
// are a stride apart and lie together, so that loops over outputs are the same for all strides.
class QuadColumns {
 public:
  // For up to `outputs` neighbouring outputs.
  QuadColumns(const DepthwiseShape& shape, int64_t quads, int64_t outputs, uint8_t zero_point)
      : quads_(quads),
        stride_(shape.stride[1]),
        columns_(outputs + (shape.kernel[1] - 1) * shape.dilation[1] / stride_),
        reach_(stride_, -1),
        memory_(std::make_unique_for_overwrite<uint8_t[]>(quads * stride_ * columns_ * block_bytes +
                                                          vector_bytes)),
        data_(memory_.get() + vector_bytes -
              reinterpret_cast<uintptr_t>(memory_.get()) % vector_bytes),
        zero_point_(zero_point) {
    for (int64_t column = 0; column < shape.kernel[1]; ++column) {
      const int64_t phase = column * shape.dilation[1] % stride_;
      reach_[phase] = column * shape.dilation[1] / stride_;
      for (int64_t quad = 0; quad < quads; ++quad) {
        offsets_.push_back(offset(quad, phase) + reach_[phase] * block_bytes);
      }
    }
  }

  const uint8_t* data() const { return data_; }
  // [kernel columns][quads]: where the first output's quads are.
  const int64_t* offsets() const { return offsets_.data(); }

  // What `outputs` neighbouring outputs meet, the first one's first tap at column `first`. `rows`
  // is [quads][quad_rows][stack]; their pixels are `pixel_stride` apart, and `width` of them exist.
  void fill(const std::vector<const uint8_t*>& rows, int64_t stack, int64_t channel,
            int64_t pixel_stride, int64_t width, int64_t first, int64_t outputs) {
    const auto interleave = stack == 1   ? avx512::interleave<1>
                            : stack == 2 ? avx512::interleave<2>
                                         : avx512::interleave<4>;
    for (int64_t phase = 0; phase < stride_; ++phase) {
      if (reach_[phase] < 0) continue;
      const int64_t x = first + phase;
      const int64_t columns = outputs + reach_[phase];
      const int64_t inside = std::clamp<int64_t>(strides(-x), 0, columns);
      const int64_t behind = std::clamp<int64_t>(strides(width - x), 0, columns);
      for (int64_t quad = 0; quad < quads_; ++quad) {
        uint8_t* out = data_ + offset(quad, phase);
        std::memset(out, zero_point_, inside * block_bytes);
        interleave(rows.data() + quad * quad_rows * stack,
                   channel + (x + inside * stride_) * pixel_stride, stride_ * pixel_stride,
                   behind - inside, out + inside * block_bytes);
        std::memset(out + behind * block_bytes, zero_point_, (columns - behind) * block_bytes);
      }
    }
  }

 private:
  int64_t offset(int64_t quad, int64_t phase) const {
    return (quad * stride_ + phase) * columns_ * block_bytes;
  }

  // That reach or pass `distance`; a division is slow.
  int64_t strides(int64_t distance) const {
    return stride_ == 1 ? distance : (distance + stride_ - 1) / stride_;
  }

  int64_t quads_, stride_, columns_;
  // Of each phase of the stride: its last column for the first output.
  std::vector<int64_t> reach_;
  std::vector<int64_t> offsets_;
  std::unique_ptr<uint8_t[]> memory_;  // An aligned vector takes longer to allocate.
  uint8_t* data_;                      // At a cache line.
  uint8_t zero_point_;
};

}  // namespace repq_fx::avx512
#endif

// The interleaved input of a stretch of an output row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/int8/avx512_vnni/depthwise/tiles.h"
#include "cpu/int8/avx512_vnni/target.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::depthwise {

// A block of channels of a pixel; or fewer channels of pixels in two or four rows, side by side.
template <int stack>
REPQ_FX_VNNI REPQ_FX_INLINE __m512i load_block(const uint8_t* const* rows, int64_t offset) {
  if constexpr (stack == 1) return _mm512_loadu_si512(rows[0] + offset);
  if constexpr (stack == 2) {
    const auto* first = reinterpret_cast<const __m256i*>(rows[0] + offset);
    const auto* second = reinterpret_cast<const __m256i*>(rows[1] + offset);
    return _mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(_mm256_loadu_si256(first)),
                                    _mm256_loadu_si256(second), 1);
  }
  __m512i block = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int i = 0; i < stack; ++i) {
    const auto* lane = reinterpret_cast<const __m128i*>(rows[i] + offset);
    block = _mm512_mask_broadcast_i32x4(block, static_cast<__mmask16>(0xF << 4 * i),
                                        _mm_loadu_si128(lane));
  }
  return block;
}

// The quads of `count` pixels of four rows, from `offset` on, `step` bytes apart. `rows` is
// [quad_rows][stack].
template <int stack>
REPQ_FX_VNNI void interleave(const uint8_t* const* rows, int64_t offset, int64_t step,
                             int64_t count, uint8_t* out) {
  const uint8_t* data[quad_rows * stack];
  std::copy_n(rows, quad_rows * stack, data);
  for (; count > 0; --count, offset += step, out += block_bytes) {
    __m512i bytes[quad_rows];
#pragma GCC unroll 4
    for (int64_t i = 0; i < quad_rows; ++i) bytes[i] = load_block<stack>(data + i * stack, offset);
    const __m512i upper_low = _mm512_unpacklo_epi8(bytes[0], bytes[1]);
    const __m512i upper_high = _mm512_unpackhi_epi8(bytes[0], bytes[1]);
    const __m512i lower_low = _mm512_unpacklo_epi8(bytes[2], bytes[3]);
    const __m512i lower_high = _mm512_unpackhi_epi8(bytes[2], bytes[3]);
    _mm512_store_si512(out, _mm512_unpacklo_epi16(upper_low, lower_low));
    _mm512_store_si512(out + vector_bytes, _mm512_unpackhi_epi16(upper_low, lower_low));
    _mm512_store_si512(out + 2 * vector_bytes, _mm512_unpacklo_epi16(upper_high, lower_high));
    _mm512_store_si512(out + 3 * vector_bytes, _mm512_unpackhi_epi16(upper_high, lower_high));
  }
}

// Quads are [quads][stride][columns] blocks: input columns that a tap meets at neighbouring outputs
// are a stride apart and lie together, so that loops over outputs are the same for all strides.
class QuadColumns {
 public:
  // For up to `outputs` neighbouring outputs.
  QuadColumns(const ConvolutionShape& shape, int64_t quads, int64_t outputs, uint8_t zero_point)
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
    const auto interleave = stack == 1   ? depthwise::interleave<1>
                            : stack == 2 ? depthwise::interleave<2>
                                         : depthwise::interleave<4>;
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

}  // namespace repq_fx::avx512_vnni::depthwise

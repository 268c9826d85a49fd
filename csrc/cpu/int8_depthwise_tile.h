// The inner loops of the depthwise convolution for processors with AVX512-VNNI: 64 channels of a
// few neighbouring pixels.
//
// An INT8 instruction sums four products of each of 16 channels. The four are one column of four
// input rows, whose bytes are interleaved once and read for all pixels and output rows they meet.
// Interleaving within 128 bits is cheap and leaves the channels in "lane order", which packing the
// results undoes at no cost: vector v of a block holds the channels 4 v + 16 i + (0, 1, 2, 3).
#pragma once

#include <cstdint>

#include "cpu/int8_epilogue.h"

namespace repq_fx {

constexpr int64_t quad_rows = 4;      // Input rows that one INT8 instruction sums.
constexpr int64_t block_vectors = 4;  // Vectors of sums of a block.
constexpr int64_t vector_bytes = 64;  // Of 16 quads or sums.
constexpr int64_t block_size = 64;    // Channels of a block: a vector of their bytes.
constexpr int64_t min_tile_pixels = 5, max_tile_pixels = 8;
constexpr int64_t max_tile_rows = 2;

// The channel of element `i` of blocks in lane order.
constexpr int64_t lane_order_channel(int64_t i) {
  const int64_t vector = i % block_size / 16, lane = i % 16;
  return i / block_size * block_size + lane / 4 * 16 + vector * 4 + lane % 4;
}

#ifdef REPQ_FX_AVX512
namespace avx512 {

// Input pixels of a row: pixel `x` is at `data + x * stride`.
struct PixelRow {
  const uint8_t* data;
  int64_t stride;
};

// `count` pixels of four rows, from pixel `x` on, `step` pixels apart. The four vectors of a block
// go to `out`, `plane` bytes apart, those of the next pixel behind them.
REPQ_FX_VNNI inline void interleave(const PixelRow* rows, int64_t x, int64_t step, int64_t count,
                                    uint8_t* out, int64_t plane) {
  const uint8_t* data[quad_rows];
  for (int64_t i = 0; i < quad_rows; ++i) data[i] = rows[i].data + x * rows[i].stride;
  for (int64_t pixel = 0; pixel < count; ++pixel, out += vector_bytes) {
    __m512i bytes[quad_rows];
#pragma GCC unroll 4
    for (int64_t i = 0; i < quad_rows; ++i) {
      bytes[i] = _mm512_loadu_si512(data[i]);
      data[i] += step * rows[i].stride;
    }
    const __m512i upper_low = _mm512_unpacklo_epi8(bytes[0], bytes[1]);
    const __m512i upper_high = _mm512_unpackhi_epi8(bytes[0], bytes[1]);
    const __m512i lower_low = _mm512_unpacklo_epi8(bytes[2], bytes[3]);
    const __m512i lower_high = _mm512_unpackhi_epi8(bytes[2], bytes[3]);
    _mm512_store_si512(out, _mm512_unpacklo_epi16(upper_low, lower_low));
    _mm512_store_si512(out + plane, _mm512_unpackhi_epi16(upper_low, lower_low));
    _mm512_store_si512(out + 2 * plane, _mm512_unpacklo_epi16(upper_high, lower_high));
    _mm512_store_si512(out + 3 * plane, _mm512_unpackhi_epi16(upper_high, lower_high));
  }
}

// The taps of a block of channels: of tap `t` and vector `v` the quads of the first pixel are at
// `data + v * plane + offsets[t]`, those of the next pixel behind them.
struct Taps {
  const uint8_t* data;
  int64_t plane;
  const int64_t* offsets;
  int64_t count;
  const int8_t* weights;  // [block vectors][rows][count] vectors
  const int32_t* start;   // [block vectors] vectors, what the sums start with.

  // Those of output `output` of the same row.
  Taps from(int64_t output) const {
    Taps result = *this;
    result.data += output * vector_bytes;
    return result;
  }
};

// Sums are [rows][pixels][block vectors] vectors.
template <int rows, int pixels>
REPQ_FX_VNNI void multiply(const Taps& taps, int32_t* out) {
  const int8_t* weights = taps.weights;
  for (int64_t v = 0; v < block_vectors; ++v, weights += rows * taps.count * vector_bytes) {
    __m512i sums[rows][pixels];
    const __m512i start = _mm512_load_si512(taps.start + v * lanes);
#pragma GCC unroll 2
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
      for (int pixel = 0; pixel < pixels; ++pixel) sums[row][pixel] = start;
    }
    for (int64_t tap = 0; tap < taps.count; ++tap) {
      const uint8_t* data = taps.data + v * taps.plane + taps.offsets[tap];
      __m512i w[rows];
#pragma GCC unroll 2
      for (int row = 0; row < rows; ++row) {
        w[row] = _mm512_load_si512(weights + (row * taps.count + tap) * vector_bytes);
      }
#pragma GCC unroll 8
      for (int pixel = 0; pixel < pixels; ++pixel) {
        const __m512i quads = _mm512_load_si512(data + pixel * vector_bytes);
#pragma GCC unroll 2
        for (int row = 0; row < rows; ++row) {
          sums[row][pixel] = _mm512_dpbusd_epi32(sums[row][pixel], quads, w[row]);
        }
      }
    }
#pragma GCC unroll 2
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
      for (int pixel = 0; pixel < pixels; ++pixel) {
        _mm512_store_si512(out + (row * pixels + pixel) * block_size + v * lanes, sums[row][pixel]);
      }
    }
  }
}

// `multiply` for one of the tiles it is made for.
using Multiply = void (*)(const Taps&, int32_t*);

template <int rows>
Multiply multiply_of(int64_t pixels) {
  switch (pixels) {
    case 5:
      return multiply<rows, 5>;
    case 6:
      return multiply<rows, 6>;
    case 7:
      return multiply<rows, 7>;
    default:
      return multiply<rows, 8>;
  }
}

inline Multiply multiply_of(int64_t rows, int64_t pixels) {
  return rows == 1 ? multiply_of<1>(pixels) : multiply_of<2>(pixels);
}

// The pixels of a tile, such that tiles leave little over at the end of a row.
inline int64_t best_tile_pixels(int64_t width) {
  int64_t best = max_tile_pixels;
  const auto computed = [width](int64_t pixels) { return (width + pixels - 1) / pixels * pixels; };
  for (int64_t pixels = best; pixels >= min_tile_pixels; --pixels) {
    if (computed(pixels) < computed(best)) best = pixels;
  }
  return best;
}

// Scale and bias of a block in lane order, in steps of the output.
struct StepScales {
  const float* scale;
  const float* bias;
  const float* coarse_scale;
};

REPQ_FX_VNNI REPQ_FX_INLINE __m512 to_float(const int32_t* sums) {
  return _mm512_maskz_cvtepi32_ps(all, _mm512_load_si512(sums));
}

// The levels of pixels whose sums only have to be scaled. Their steps fit int32, and packing clamps
// them to the range of levels.
template <bool has_coarse>
REPQ_FX_VNNI inline void requantize(const int32_t* sums, const int32_t* coarse, int64_t pixels,
                                    const StepScales& scales, const Epilogue& epilogue,
                                    uint8_t* levels, int64_t stride, __mmask64 mask) {
  const __m512i zero_point = _mm512_set1_epi16(static_cast<int16_t>(epilogue.zero_point));
  const __m512i lowest = _mm512_set1_epi8(static_cast<char>(epilogue.lowest));
  const __m512i highest = _mm512_set1_epi8(static_cast<char>(epilogue.highest));
  __m512 scale[block_vectors], bias[block_vectors], coarse_scale[block_vectors];
#pragma GCC unroll 4
  for (int64_t v = 0; v < block_vectors; ++v) {
    scale[v] = _mm512_load_ps(scales.scale + v * lanes);
    bias[v] = _mm512_load_ps(scales.bias + v * lanes);
    if constexpr (has_coarse) coarse_scale[v] = _mm512_load_ps(scales.coarse_scale + v * lanes);
  }
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    __m512i steps[block_vectors];
#pragma GCC unroll 4
    for (int64_t v = 0; v < block_vectors; ++v) {
      const int64_t i = pixel * block_size + v * lanes;
      __m512 value = _mm512_fmadd_ps(to_float(sums + i), scale[v], bias[v]);
      if constexpr (has_coarse) {
        value = _mm512_fmadd_ps(to_float(coarse + i), coarse_scale[v], value);
      }
      steps[v] = _mm512_maskz_cvtps_epi32(all, value);
    }
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), zero_point);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), zero_point);
    const __m512i inside =
        _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), lowest), highest);
    if (~mask == 0) {
      _mm512_storeu_si512(levels + pixel * stride, inside);
    } else {
      _mm512_mask_storeu_epi8(levels + pixel * stride, mask, inside);
    }
  }
}

// Puts the sums of a pixel from lane order into that of the channels.
REPQ_FX_VNNI inline void to_channel_order(int32_t* sums) {
  __m512i v[block_vectors];
#pragma GCC unroll 4
  for (int64_t i = 0; i < block_vectors; ++i) v[i] = _mm512_load_si512(sums + i * lanes);
  const __m512i low01 = _mm512_maskz_shuffle_i32x4(all, v[0], v[1], 0x44);
  const __m512i high01 = _mm512_maskz_shuffle_i32x4(all, v[0], v[1], 0xEE);
  const __m512i low23 = _mm512_maskz_shuffle_i32x4(all, v[2], v[3], 0x44);
  const __m512i high23 = _mm512_maskz_shuffle_i32x4(all, v[2], v[3], 0xEE);
  _mm512_store_si512(sums, _mm512_maskz_shuffle_i32x4(all, low01, low23, 0x88));
  _mm512_store_si512(sums + lanes, _mm512_maskz_shuffle_i32x4(all, low01, low23, 0xDD));
  _mm512_store_si512(sums + 2 * lanes, _mm512_maskz_shuffle_i32x4(all, high01, high23, 0x88));
  _mm512_store_si512(sums + 3 * lanes, _mm512_maskz_shuffle_i32x4(all, high01, high23, 0xDD));
}

}  // namespace avx512
#endif

}  // namespace repq_fx

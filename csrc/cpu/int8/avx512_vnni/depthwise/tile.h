// The inner loops of the depthwise convolution for processors with AVX512-VNNI: 64 channels of a
// few neighbouring outputs, whose sums stay in registers.
//
// An INT8 instruction sums four products of each of 16 channels. The four are one column of four
// input rows, whose bytes are interleaved once and read for all outputs that meet them.
// Interleaving within 128 bits is cheap and leaves the channels in "lane order", which packing the
// results undoes at no cost: vector v of a block holds the bytes 4 v + 16 i + (0, 1, 2, 3).
#pragma once

#include <cstdint>

#include "cpu/int8/kernels/epilogue.h"
#include "cpu/int8/kernels/output_steps.h"

#ifdef REPQ_FX_AVX512
namespace repq_fx::avx512::depthwise {

constexpr int64_t quad_rows = 4;      // Input rows that one INT8 instruction sums.
constexpr int64_t block_size = 64;    // Channels of a block: a vector of their bytes.
constexpr int64_t block_vectors = 4;  // Vectors of a block's sums, or of its quads.
constexpr int64_t vector_bytes = 64;
constexpr int64_t block_bytes = block_vectors * vector_bytes;
// The sums of a tile take most of the 32 registers.
constexpr int64_t max_tile_rows = 2, max_tile_outputs = 6;
constexpr int64_t max_tile_pixels(int64_t rows) { return rows == 2 ? 3 : 5; }

// Where in a vector of bytes element `i` of a block in lane order is.
constexpr int64_t lane_order_byte(int64_t i) {
  const int64_t vector = i / 16, lane = i % 16;
  return lane / 4 * 16 + vector * 4 + lane % 4;
}

// The taps of a block of channels: the quads of the first output's tap `t` are at
// `data + offsets[t]`, those of the next output behind them.
struct Taps {
  const uint8_t* data;
  const int64_t* offsets;
  int64_t count;
  const int8_t* weights;  // [count][rows] blocks
  const int32_t* start;   // A block: what the sums start with.

  void advance(int64_t outputs) { data += outputs * block_bytes; }
};

// In place: around the intrinsic, GCC copies and spills the sums of a loop that fills the
// registers.
REPQ_FX_VNNI REPQ_FX_INLINE void add_products(__m512i& sums, __m512i quads, __m512i weights) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(quads), "v"(weights));
}

template <int rows, int pixels>
struct Tile {
  __m512i sums[rows][pixels][block_vectors];
};

template <int rows, int pixels>
REPQ_FX_VNNI REPQ_FX_INLINE void multiply(const Taps& taps, Tile<rows, pixels>& tile) {
#pragma GCC unroll 4
  for (int v = 0; v < block_vectors; ++v) {
    const __m512i start = _mm512_load_si512(taps.start + v * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows * pixels; ++i) tile.sums[i / pixels][i % pixels][v] = start;
  }
  const int8_t* weights = taps.weights;
  for (int64_t tap = 0; tap < taps.count; ++tap, weights += rows * block_bytes) {
    const uint8_t* data = taps.data + taps.offsets[tap];
#pragma GCC unroll 4
    for (int v = 0; v < block_vectors; ++v) {
      __m512i w[rows];
#pragma GCC unroll 2
      for (int row = 0; row < rows; ++row) {
        w[row] = _mm512_load_si512(weights + row * block_bytes + v * vector_bytes);
      }
#pragma GCC unroll 8
      for (int pixel = 0; pixel < pixels; ++pixel) {
        const __m512i quads = _mm512_load_si512(data + pixel * block_bytes + v * vector_bytes);
#pragma GCC unroll 2
        for (int row = 0; row < rows; ++row) {
          add_products(tile.sums[row][pixel][v], quads, w[row]);
        }
      }
    }
  }
}

// The weights at the kernel's centre, which have a scale of their own: of output row `row` the
// quads are at `data + offsets[row]`, and all weights but those of the centre's row are zeros.
struct CoarseTap {
  const uint8_t* data;
  const int64_t* offsets;
  const int8_t* weights;  // [rows] blocks
  const int32_t* start;   // A block: what the sums start with.

  void advance(int64_t outputs) { data += outputs * block_bytes; }

  REPQ_FX_VNNI REPQ_FX_INLINE __m512i sums(int row, int pixel, int v) const {
    const int8_t* w = weights + row * block_bytes + v * vector_bytes;
    const uint8_t* quads = data + offsets[row] + pixel * block_bytes + v * vector_bytes;
    __m512i result = _mm512_load_si512(start + v * lanes);
    add_products(result, _mm512_load_si512(quads), _mm512_load_si512(w));
    return result;
  }
};

// Scale and bias of a block in lane order, in steps of the output, and the unit of a step.
struct StepScales {
  const float* scale;
  const float* bias;
  const float* coarse_scale;
  const float* unit;
};

// Where levels go, and their range.
struct LevelRows {
  uint8_t* levels;
  int64_t stride, row_stride;
  int64_t rows;         // Those that exist.
  int64_t group_bytes;  // Of a vector, for each row group of a stack.
  __mmask64 channels;   // Of the first group.
  int16_t zero_point;
  uint8_t lowest, highest;
};

// The steps of the tile's sums, as integers.
template <Activation activation, bool has_coarse, int rows, int pixels>
REPQ_FX_VNNI REPQ_FX_INLINE void to_steps(const CoarseTap& coarse, const StepScales& scales,
                                          Tile<rows, pixels>& tile) {
#pragma GCC unroll 4
  for (int v = 0; v < block_vectors; ++v) {
    const __m512 scale = _mm512_load_ps(scales.scale + v * lanes);
    const __m512 bias = _mm512_load_ps(scales.bias + v * lanes);
#pragma GCC unroll 2
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
      for (int pixel = 0; pixel < pixels; ++pixel) {
        __m512i& sum = tile.sums[row][pixel][v];
        __m512 steps = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, sum), scale, bias);
        if constexpr (has_coarse) {
          const __m512 coarse_sum = _mm512_maskz_cvtepi32_ps(all, coarse.sums(row, pixel, v));
          const __m512 coarse_scale = _mm512_load_ps(scales.coarse_scale + v * lanes);
          steps = _mm512_fmadd_ps(coarse_sum, coarse_scale, steps);
        }
        if constexpr (activation != Activation::none) {
          const __m512 unit = _mm512_load_ps(scales.unit + v * lanes);
          steps = activate_steps<activation>(steps, _mm512_mul_ps(steps, unit));
        }
        sum = _mm512_maskz_cvtps_epi32(all, steps);
      }
    }
  }
}

// The levels of `tiles` tiles of neighbouring outputs. Their steps fit int32, and packing clamps
// them to the range of levels.
template <Activation activation, int rows, int pixels, bool has_coarse, bool stacked>
REPQ_FX_VNNI void to_levels(Taps taps, CoarseTap coarse, const StepScales& scales, LevelRows out,
                            int64_t tiles) {
  const __m512i zero_point = _mm512_set1_epi16(out.zero_point);
  const __m512i lowest = _mm512_set1_epi8(static_cast<char>(out.lowest));
  const __m512i highest = _mm512_set1_epi8(static_cast<char>(out.highest));
  for (; tiles > 0; --tiles) {
    Tile<rows, pixels> tile;
    multiply(taps, tile);
    to_steps<activation, has_coarse>(coarse, scales, tile);
#pragma GCC unroll 2
    for (int row = 0; row < rows; ++row) {
      if (row >= out.rows) break;
#pragma GCC unroll 8
      for (int pixel = 0; pixel < pixels; ++pixel) {
        const auto& steps = tile.sums[row][pixel];
        const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), zero_point);
        const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), zero_point);
        const __m512i bytes = _mm512_packus_epi16(low, high);
        const __m512i inside = _mm512_min_epu8(_mm512_max_epu8(bytes, lowest), highest);
        uint8_t* levels = out.levels + row * out.row_stride + pixel * out.stride;
        _mm512_mask_storeu_epi8(levels, out.channels, inside);
        if constexpr (stacked) {
          // A masked store takes the bytes of each of the other groups from where they are.
          for (int64_t i = 1; i * rows + row < out.rows; ++i) {
            const int64_t byte = i * out.group_bytes;
            _mm512_mask_storeu_epi8(levels + i * rows * out.row_stride - byte, out.channels << byte,
                                    inside);
          }
        }
      }
    }
    taps.advance(pixels);
    coarse.advance(pixels);
    out.levels += pixels * out.stride;
  }
}

// Puts the sums of an output from lane order into that of the bytes.
REPQ_FX_VNNI REPQ_FX_INLINE void store_sums(const __m512i (&v)[block_vectors], int32_t* out) {
  const __m512i low01 = _mm512_maskz_shuffle_i32x4(all, v[0], v[1], 0x44);
  const __m512i high01 = _mm512_maskz_shuffle_i32x4(all, v[0], v[1], 0xEE);
  const __m512i low23 = _mm512_maskz_shuffle_i32x4(all, v[2], v[3], 0x44);
  const __m512i high23 = _mm512_maskz_shuffle_i32x4(all, v[2], v[3], 0xEE);
  _mm512_store_si512(out, _mm512_maskz_shuffle_i32x4(all, low01, low23, 0x88));
  _mm512_store_si512(out + lanes, _mm512_maskz_shuffle_i32x4(all, low01, low23, 0xDD));
  _mm512_store_si512(out + 2 * lanes, _mm512_maskz_shuffle_i32x4(all, high01, high23, 0x88));
  _mm512_store_si512(out + 3 * lanes, _mm512_maskz_shuffle_i32x4(all, high01, high23, 0xDD));
}

// The sums of a tile, [rows][pixels][block_size], in the order of the bytes.
template <int rows, int pixels>
REPQ_FX_VNNI void to_sums(const Taps& taps, int32_t* out) {
  Tile<rows, pixels> tile;
  multiply(taps, tile);
#pragma GCC unroll 2
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
    for (int pixel = 0; pixel < pixels; ++pixel) {
      store_sums(tile.sums[row][pixel], out + (row * pixels + pixel) * block_size);
    }
  }
}

template <int rows, int pixels>
REPQ_FX_VNNI void coarse_to_sums(const CoarseTap& coarse, int32_t* out) {
  for (int row = 0; row < rows; ++row) {
    for (int pixel = 0; pixel < pixels; ++pixel, out += block_size) {
      store_sums({coarse.sums(row, pixel, 0), coarse.sums(row, pixel, 1),
                  coarse.sums(row, pixel, 2), coarse.sums(row, pixel, 3)},
                 out);
    }
  }
}

// All for one size of tile.
struct TileKernels {
  using ToLevels = void (*)(Taps, CoarseTap, const StepScales&, LevelRows, int64_t);
  ToLevels to_levels[2];  // Without a stack and with one.
  void (*to_sums)(const Taps&, int32_t*);
  void (*coarse_to_sums)(const CoarseTap&, int32_t*);
};

// Which of them a layer needs. Of a function that `to_levels` does not know, it is not called.
struct TileKind {
  Activation activation;
  bool has_coarse;

  template <int rows, int pixels>
  TileKernels kernels() const {
    if (activation == Activation::silu) return kernels_after<Activation::silu, rows, pixels>();
    if (activation == Activation::hard_swish) {
      return kernels_after<Activation::hard_swish, rows, pixels>();
    }
    return kernels_after<Activation::none, rows, pixels>();
  }

 private:
  template <Activation function, int rows, int pixels>
  TileKernels kernels_after() const {
    if (has_coarse) {
      return {{to_levels<function, rows, pixels, true, false>,
               to_levels<function, rows, pixels, true, true>},
              to_sums<rows, pixels>,
              coarse_to_sums<rows, pixels>};
    }
    return {{to_levels<function, rows, pixels, false, false>,
             to_levels<function, rows, pixels, false, true>},
            to_sums<rows, pixels>,
            nullptr};
  }
};

// Those for up to `max_tile_pixels(rows)` pixels.
inline TileKernels tile_kernels(int64_t rows, int64_t pixels, TileKind kind) {
  if (rows == 2) {
    if (pixels == 1) return kind.kernels<2, 1>();
    if (pixels == 2) return kind.kernels<2, 2>();
    return kind.kernels<2, 3>();
  }
  if (pixels == 1) return kind.kernels<1, 1>();
  if (pixels == 2) return kind.kernels<1, 2>();
  if (pixels == 3) return kind.kernels<1, 3>();
  if (pixels == 4) return kind.kernels<1, 4>();
  return kind.kernels<1, 5>();
}

}  // namespace repq_fx::avx512::depthwise
#endif

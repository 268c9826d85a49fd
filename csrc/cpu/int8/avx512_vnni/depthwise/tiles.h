// The inner loops of the depthwise convolution for processors with AVX512-VNNI: 64 channels of a
// few neighbouring outputs, whose sums stay in registers.
//
// An INT8 instruction sums four products of each of 16 channels. The four are one column of four
// input rows, whose bytes are interleaved once and read for all outputs that meet them.
// Interleaving within 128 bits is cheap and leaves the channels in "lane order", which packing the
// results undoes at no cost: vector v of a block holds the bytes 4 v + 16 i + (0, 1, 2, 3).
#pragma once

#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::depthwise {

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

// The weights at the kernel's centre, which have a scale of their own: of output row `row` the
// quads are at `data + offsets[row]`, and all weights but those of the centre's row are zeros.
struct CoarseTap {
  const uint8_t* data;
  const int64_t* offsets;
  const int8_t* weights;  // [rows] blocks
  const int32_t* start;   // A block: what the sums start with.

  void advance(int64_t outputs) { data += outputs * block_bytes; }
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
  uint64_t channels;    // A mask: those of the first group.
  int16_t zero_point;
  uint8_t lowest, highest;
};

// All for one size of tile.
struct TileKernels {
  // The levels of `tiles` tiles of neighbouring outputs. Their steps fit int32, and packing clamps
  // them to the range of levels.
  using ToLevels = void (*)(Taps, CoarseTap, const StepScales&, LevelRows, int64_t tiles);
  ToLevels to_levels[2];  // Without a stack and with one.
  // The sums of a tile, [rows][pixels][block_size], in the order of the bytes.
  void (*to_sums)(const Taps&, int32_t*);
  void (*coarse_to_sums)(const CoarseTap&, int32_t*);
};

// Which of them a layer needs. Behind a function that is none of `register_functions`, `to_levels`
// is not called.
struct TileKind {
  Activation activation;
  bool has_coarse;
};

// Those for up to `max_tile_pixels(rows)` pixels.
TileKernels tile_kernels(int64_t rows, int64_t pixels, const TileKind& kind);

}  // namespace repq_fx::avx512_vnni::depthwise

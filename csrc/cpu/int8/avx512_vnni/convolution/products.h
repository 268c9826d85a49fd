// The inner loops of a convolution: the products of a few output pixels with some channels of the
// weights, summed in registers over all taps of the kernel.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/int8/avx512_vnni/output_steps.h"

namespace repq_fx::avx512_vnni::convolution {

constexpr int64_t quad_channels = 4;     // Input channels that one instruction sums.
constexpr int64_t vector_channels = 16;  // Output channels in a register.
constexpr int64_t max_vectors = 4;
constexpr int64_t max_pixels = 10;
constexpr int64_t max_tile_vectors = 24;

// Pixels of a tile whose sums, weights and input fit the 32 registers of AVX512.
constexpr int64_t tile_pixels_of(int64_t vectors) {
  constexpr std::array<int64_t, max_vectors> most = {10, 10, 8, 6};
  return most[vectors - 1];
}

// What the pixels of a tile meet: `segments` runs of `quads` adjacent input quads. A segment is a
// tap of the kernel, or several whose inputs are adjacent. That of pixel p in segment s begins at
// inputs[s * step + p] + offsets[s], and at the channel where the weights begin.
struct TileInputs {
  const uint8_t* const* inputs;
  int64_t step;  // 0 where all segments start from the same pointers.
  const int64_t* offsets;
  int64_t segments, quads;
  // How far ahead of the weights in use one vector of them is fetched into L2 for each quad.
  int64_t ahead = 0;
};

// Weights of neighbouring output channels.
struct WeightBlock {
  const int8_t* weights;  // [taps][quads][vectors * 16][4], padded with zeros.
  const int32_t* start;   // [vectors * 16]: the share of the input's zero point.
  int64_t vectors;
  int64_t first_input;  // Their first input channel.
};

// Sums as float32, times `scale` and plus `bias`, whose rows are `bias_step` apart. All are padded
// to whole vectors.
struct Scaling {
  const float* scale;
  const float* bias;
  int64_t bias_step;  // 0: the same for all pixels.
  // What one is in the unit of an activation function's argument; read for such a function alone.
  const float* unit = nullptr;
};

struct LevelRange {
  int32_t zero_point, lowest, highest;
};

// The levels of a tile; `channels` of its vectors exist.
struct LevelTile {
  uint8_t* levels;
  int64_t stride, channels;
};

// The levels of an image that is added.
struct Addend {
  const uint8_t* levels;  // The first pixel's first channel.
  int64_t stride, channels;
  int32_t zero_point;
  const float* scale;  // Of each channel, padded as that of a `Scaling`.
};

// Rows of `vectors * 16` biases with what is added; they may replace those of `scaling`.
void add_to_bias(const Addend& addend, int64_t pixels, int64_t vectors, const Scaling& scaling,
                 float* sums);

// The functions for a number of vectors, by the number of pixels less 1.
struct ProductKernels {
  // The sums of a tile, [pixels][vectors * 16].
  using Sum = void (*)(const TileInputs&, const WeightBlock&, int32_t* sums);
  // The same, scaled.
  using Scale = void (*)(const TileInputs&, const WeightBlock&, const Scaling&, float* scaled);
  // Levels after one of `register_functions`, of scaled sums that are steps of the output and fit
  // int32.
  using Quantize = void (*)(const TileInputs&, const WeightBlock&, const Scaling&,
                            const LevelRange&, const LevelTile&);

  std::array<Sum, max_pixels> sum;
  std::array<Scale, max_pixels> scale;
  std::array<std::array<Quantize, max_pixels>, register_function_count> quantize;
};

// By the number of vectors less 1.
extern const std::array<ProductKernels, max_vectors> product_kernels;

}  // namespace repq_fx::avx512_vnni::convolution

// What follows the integer sums of a layer: scale, bias, an added image, an activation function and
// the rounding to 8 bits, while the sums are in a tile that fits L1.
#pragma once

#include <cstdint>

#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni {

// Sums of neighbouring pixels. The rows of `sums` and `extra` are `stride` apart, those of the
// others as the images they belong to.
struct SumTile {
  const int32_t* sums;  // [pixels][channels]
  const float* extra;   // [pixels][channels], what is added in real units; or null.
  int64_t stride;
  int64_t pixels, channels;
  int64_t first_channel;  // Into the layer's numbers of each channel.
  const uint8_t* addend;  // The first pixel's first channel; or null.
  int64_t addend_stride;
  uint8_t* levels;  // The first pixel's first channel; null for a result in float32.
  float* values;    // The same for float32; or null.
  int64_t output_stride;
};

// Turns the sums of a tile into levels or values.
void finish(const SumTile& tile, const Layer& layer);

}  // namespace repq_fx::avx512_vnni

// The inner loops of the coarse convolution: a tile of neighbouring pixels is multiplied with a 1x1
// kernel, added to the fine sums, and rounded to codes while it is in registers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/avx512_vnni.h"
#include "cpu/int8_conv2d.h"
#include "cpu/quantize.h"
#include "cpu/simd_clones.h"

namespace repq_fx {

constexpr int64_t tile_pixels = 8;

struct CoarseTile {
  const uint8_t* inputs[tile_pixels];  // The input channels under each pixel, in whole quads.
  int64_t pixels;                      // Those that exist; the pointers of the others are valid.
  float* sums;                         // [pixels][stride]
  Output output;                       // [pixels][stride]
  int64_t stride;
};

// A 1x1 kernel, padded with zeros to whole blocks and quads.
struct CoarseKernel {
  const int8_t* weights;  // [blocks][quads][block_channels][quad_size]
  const int32_t* start;   // [blocks][block_channels]: what the input's zero point adds.
  const float* scale;     // [channels]
  int64_t channels, quads;
};

REPQ_FX_SIMD_CLONES
static void add_coarse_portable(const CoarseTile& tile, const CoarseKernel& kernel) {
  for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
    float* sums = tile.sums + pixel * tile.stride;
    const int8_t* weights = kernel.weights;
    for (int64_t first = 0; first < kernel.channels; first += block_channels) {
      int32_t products[block_channels];
      std::copy_n(kernel.start + first, block_channels, products);
      for (int64_t quad = 0; quad < kernel.quads; ++quad) {
        const uint8_t* input = tile.inputs[pixel] + quad * quad_size;
        for (int64_t channel = 0; channel < block_channels; ++channel) {
          for (int64_t i = 0; i < quad_size; ++i) products[channel] += input[i] * *weights++;
        }
      }
      const int64_t size = std::min(block_channels, kernel.channels - first);
      for (int64_t i = 0; i < size; ++i) {
        sums[first + i] += static_cast<float>(products[i]) * kernel.scale[first + i];
      }
    }
    const Output output = tile.output.at(pixel * tile.stride);
    if (output.codes != nullptr) {
      quantize_values(sums, output.codes, kernel.channels, output.grid);
    }
  }
}

#ifdef REPQ_FX_AVX512_VNNI
namespace avx512 {

// `blocks` blocks of channels from channel `first` on. GCC keeps the 8 * `blocks` vectors of sums
// in registers only if all loops over them are unrolled.
template <int blocks, typename Store>
REPQ_FX_TARGET void add_blocks(const CoarseTile& tile, const CoarseKernel& kernel, int64_t first,
                               const Store& store) {
  const int64_t quads = kernel.quads;
  const int8_t* weights = kernel.weights + first * quads * quad_size;
  __m512i products[blocks][tile_pixels];
#pragma GCC unroll 8
  for (int block = 0; block < blocks; ++block) {
    const __m512i start = _mm512_loadu_si512(kernel.start + first + block * block_channels);
#pragma GCC unroll 8
    for (int pixel = 0; pixel < tile_pixels; ++pixel) products[block][pixel] = start;
  }
  for (int64_t quad = 0; quad < quads; ++quad) {
    __m512i w[blocks];
#pragma GCC unroll 8
    for (int block = 0; block < blocks; ++block) {
      w[block] = _mm512_loadu_si512(weights + (block * quads + quad) * block_channels * quad_size);
    }
#pragma GCC unroll 8
    for (int pixel = 0; pixel < tile_pixels; ++pixel) {
      const __m512i input = _mm512_set1_epi32(
          _mm_cvtsi128_si32(_mm_loadu_si32(tile.inputs[pixel] + quad * quad_size)));
#pragma GCC unroll 8
      for (int block = 0; block < blocks; ++block) {
        products[block][pixel] = _mm512_dpbusd_epi32(products[block][pixel], input, w[block]);
      }
    }
  }
#pragma GCC unroll 8
  for (int block = 0; block < blocks; ++block) {
    const int64_t channel = first + block * block_channels;
    const __mmask16 mask = channel_mask(kernel.channels - channel);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, kernel.scale + channel);
#pragma GCC unroll 8
    for (int pixel = 0; pixel < tile_pixels; ++pixel) {
      const __m512 coarse = _mm512_mul_ps(_mm512_cvtepi32_ps(products[block][pixel]), scale);
      if (pixel >= tile.pixels) continue;
      const int64_t offset = pixel * tile.stride + channel;
      const __m512 fine = _mm512_maskz_loadu_ps(mask, tile.sums + offset);
      store(offset, mask, _mm512_add_ps(fine, coarse));
    }
  }
}

template <typename Store>
REPQ_FX_TARGET void add_coarse_as(const CoarseTile& tile, const CoarseKernel& kernel) {
  const Store store(tile.output);
  for (int64_t first = 0; first < kernel.channels;) {
    const int64_t blocks = ceil_divide(kernel.channels - first, block_channels);
    if (blocks >= 3) {
      add_blocks<3>(tile, kernel, first, store);
    } else if (blocks == 2) {
      add_blocks<2>(tile, kernel, first, store);
    } else {
      add_blocks<1>(tile, kernel, first, store);
    }
    first += std::min<int64_t>(blocks, 3) * block_channels;
  }
}

inline void add_coarse(const CoarseTile& tile, const CoarseKernel& kernel) {
  (tile.output.codes != nullptr ? add_coarse_as<StoreCodes>
                                : add_coarse_as<StoreValues>)(tile, kernel);
}

}  // namespace avx512
#endif

inline auto best_add_coarse() {
#ifdef REPQ_FX_AVX512_VNNI
  if (avx512::is_supported()) return avx512::add_coarse;
#endif
  return add_coarse_portable;
}

}  // namespace repq_fx

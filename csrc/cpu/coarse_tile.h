// The inner loops of the coarse convolution: a few neighbouring pixels are multiplied with a 1x1
// kernel, added to the fine sums, and rounded to 8 bits while they are in registers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd_clones.h"

namespace repq_fx {

constexpr int64_t tile_pixels = 8;
constexpr int64_t block_channels = 16;  // Output channels whose weights lie together.
constexpr int64_t quad_size = 4;        // Input channels that one INT8 instruction sums.

// The uint8 grid of an output, in the form the loops need.
struct OutputGrid {
  float inverse_scale, lowest, highest;  // The range in steps from the zero point.
  int32_t zero_point;
};

// Up to `tile_pixels` neighbouring pixels.
struct Tile {
  const uint8_t* inputs[tile_pixels];  // The input channels under each pixel.
  int64_t pixels;
  float* sums;      // [pixels][stride]: the fine sums; the result if `levels` is null.
  uint8_t* levels;  // [pixels][stride]
  int64_t stride;   // Output channels of a pixel.
};

// A 1x1 kernel [blocks][quads][block_channels][quad_size], padded with zeros.
struct CoarseKernel {
  const int8_t* weights;
  int64_t quads;
  const int32_t* start;  // [blocks * block_channels]: the share of the zero point.
  const float* scale;    // [channels]
  int64_t channels;      // Output channels.
};

// One weight per channel.
struct DepthwiseKernel {
  const float* weights;  // [channels], integers.
  const float* scale;    // [channels]
  int64_t channels;
  float input_zero_point;
};

namespace portable {

// Selects between values already computed, without a branch, so that compilers vectorize it.
inline uint8_t to_level(float value, const OutputGrid& grid) {
  // Adding and taking away 1.5 * 2**23 rounds to an integer, ties to even, at any vector width.
  constexpr float round = 0x1.8p23f;
  const float steps = value * grid.inverse_scale;
  const float above = steps > grid.lowest ? steps : grid.lowest;
  const float inside = above < grid.highest ? above : grid.highest;
  return static_cast<uint8_t>(static_cast<int32_t>((inside + round) - round) + grid.zero_point);
}

inline void quantize_tile(const Tile& tile, int64_t channels, const OutputGrid& grid) {
  if (tile.levels == nullptr) return;
  for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
    const float* sums = tile.sums + pixel * tile.stride;
    uint8_t* levels = tile.levels + pixel * tile.stride;
    for (int64_t channel = 0; channel < channels; ++channel) {
      levels[channel] = to_level(sums[channel], grid);
    }
  }
}

REPQ_FX_SIMD_CLONES
static void add_coarse(const Tile& tile, const CoarseKernel& kernel, const OutputGrid& grid) {
  for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
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
      float* sums = tile.sums + pixel * tile.stride + first;
      const int64_t size = std::min(block_channels, kernel.channels - first);
      for (int64_t i = 0; i < size; ++i) {
        sums[i] += static_cast<float>(products[i]) * kernel.scale[first + i];
      }
    }
  }
  quantize_tile(tile, kernel.channels, grid);
}

REPQ_FX_SIMD_CLONES
static void add_depthwise(const Tile& tile, const DepthwiseKernel& kernel, const OutputGrid& grid) {
  for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
    float* sums = tile.sums + pixel * tile.stride;
    for (int64_t i = 0; i < kernel.channels; ++i) {
      const float input = static_cast<float>(tile.inputs[pixel][i]) - kernel.input_zero_point;
      sums[i] += input * kernel.weights[i] * kernel.scale[i];
    }
  }
  quantize_tile(tile, kernel.channels, grid);
}

}  // namespace portable

#ifdef REPQ_FX_AVX512
namespace avx512 {

#define REPQ_FX_TARGET __attribute__((target("avx512f,avx512vnni")))

constexpr __mmask16 full_mask = 0xFFFF;

REPQ_FX_INLINE __mmask16 channel_mask(int64_t remaining) {
  return remaining < block_channels ? (1 << remaining) - 1 : full_mask;
}

// What becomes of 16 sums, of which `mask` exist: stored as they are, or rounded to levels.
struct StoreSums {
  REPQ_FX_TARGET REPQ_FX_INLINE void operator()(const Tile& tile, int64_t offset, __mmask16 mask,
                                                __m512 sums) const {
    _mm512_mask_storeu_ps(tile.sums + offset, mask, sums);
  }
};

struct StoreLevels {
  __m512 inverse_scale, lowest, highest;
  __m512i zero_point;

  REPQ_FX_TARGET REPQ_FX_INLINE explicit StoreLevels(const OutputGrid& grid)
      : inverse_scale(_mm512_set1_ps(grid.inverse_scale)),
        lowest(_mm512_set1_ps(grid.lowest)),
        highest(_mm512_set1_ps(grid.highest)),
        zero_point(_mm512_set1_epi32(grid.zero_point)) {}

  REPQ_FX_TARGET REPQ_FX_INLINE void operator()(const Tile& tile, int64_t offset, __mmask16 mask,
                                                __m512 sums) const {
    const __m512 above = _mm512_max_ps(_mm512_mul_ps(sums, inverse_scale), lowest);
    const __m512i steps = _mm512_cvt_roundps_epi32(_mm512_min_ps(above, highest),
                                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i levels = _mm512_cvtepi32_epi8(_mm512_add_epi32(steps, zero_point));
    if (mask == full_mask) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(tile.levels + offset), levels);
    } else {  // A masked store of bytes is many times slower than a whole one.
      __builtin_memcpy(tile.levels + offset, &levels, __builtin_popcount(mask));
    }
  }
};

// `blocks` blocks of channels, from channel `first` on. Its 8 * `blocks` sums fit in registers.
template <int blocks, typename Store>
REPQ_FX_TARGET void add_blocks(const Tile& tile, const CoarseKernel& kernel, int64_t first,
                               const Store& store) {
  constexpr int64_t quad_bytes = block_channels * quad_size;
  const int64_t quads = kernel.quads;
  const int8_t* weights = kernel.weights + first * quads * quad_size;
  __m512i sums[tile_pixels][blocks];
#pragma GCC unroll 8
  for (int block = 0; block < blocks; ++block) {
    const __m512i start = _mm512_loadu_si512(kernel.start + first + block * block_channels);
#pragma GCC unroll 8
    for (int pixel = 0; pixel < tile_pixels; ++pixel) sums[pixel][block] = start;
  }
  for (int64_t quad = 0; quad < quads; ++quad) {
    __m512i w[blocks];
#pragma GCC unroll 8
    for (int block = 0; block < blocks; ++block) {
      w[block] = _mm512_loadu_si512(weights + (block * quads + quad) * quad_bytes);
    }
#pragma GCC unroll 8
    for (int pixel = 0; pixel < tile_pixels; ++pixel) {
      int32_t input;
      __builtin_memcpy(&input, tile.inputs[pixel] + quad * quad_size, quad_size);
      const __m512i x = _mm512_set1_epi32(input);
#pragma GCC unroll 8
      for (int block = 0; block < blocks; ++block) {
        sums[pixel][block] = _mm512_dpbusd_epi32(sums[pixel][block], x, w[block]);
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
      if (pixel < tile.pixels) {
        const int64_t offset = pixel * tile.stride + channel;
        const __m512 fine = _mm512_maskz_loadu_ps(mask, tile.sums + offset);
        const __m512 coarse = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[pixel][block]), scale);
        store(tile, offset, mask, _mm512_add_ps(fine, coarse));
      }
    }
  }
}

template <typename Store>
REPQ_FX_TARGET void add_all_blocks(const Tile& tile, const CoarseKernel& kernel,
                                   const Store& store) {
  for (int64_t first = 0; first < kernel.channels; first += 3 * block_channels) {
    const int64_t remaining = kernel.channels - first;
    if (remaining > 2 * block_channels) {
      add_blocks<3>(tile, kernel, first, store);
    } else if (remaining > block_channels) {
      add_blocks<2>(tile, kernel, first, store);
    } else {
      add_blocks<1>(tile, kernel, first, store);
    }
  }
}
REPQ_FX_TARGET inline void add_coarse(const Tile& tile, const CoarseKernel& kernel,
                                      const OutputGrid& grid) {
  if (tile.levels == nullptr)
    add_all_blocks(tile, kernel, StoreSums{});
  else
    add_all_blocks(tile, kernel, StoreLevels(grid));
}

template <typename Store>
REPQ_FX_TARGET inline void add_depthwise_channels(const Tile& tile, const DepthwiseKernel& kernel,
                                                  const Store& store) {
  const __m512 zero_point = _mm512_set1_ps(kernel.input_zero_point);
  for (int64_t channel = 0; channel < kernel.channels; channel += block_channels) {
    const __mmask16 mask = channel_mask(kernel.channels - channel);
    const __m512 weight = _mm512_maskz_loadu_ps(mask, kernel.weights + channel);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, kernel.scale + channel);
    for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
      __m128i bytes = _mm_setzero_si128();
      if (mask == full_mask)
        bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tile.inputs[pixel] + channel));
      else
        __builtin_memcpy(&bytes, tile.inputs[pixel] + channel, kernel.channels - channel);
      const __m512 input = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
      const __m512 products = _mm512_mul_ps(_mm512_sub_ps(input, zero_point), weight);
      const int64_t offset = pixel * tile.stride + channel;
      const __m512 fine = _mm512_maskz_loadu_ps(mask, tile.sums + offset);
      store(tile, offset, mask, _mm512_add_ps(fine, _mm512_mul_ps(products, scale)));
    }
  }
}
REPQ_FX_TARGET inline void add_depthwise(const Tile& tile, const DepthwiseKernel& kernel,
                                         const OutputGrid& grid) {
  if (tile.levels == nullptr)
    add_depthwise_channels(tile, kernel, StoreSums{});
  else
    add_depthwise_channels(tile, kernel, StoreLevels(grid));
}

}  // namespace avx512
#endif

}  // namespace repq_fx

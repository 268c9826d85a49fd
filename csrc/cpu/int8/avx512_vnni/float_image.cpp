#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/int8/avx512_vnni/kernels.h"
#include "cpu/int8/avx512_vnni/level_grid.h"
#include "cpu/int8/avx512_vnni/vector_math.h"
#include "cpu/int8/portable/kernels.h"

namespace repq_fx::avx512_vnni {
namespace {

// Four channels of a pixel are a 32-bit number, those of sixteen neighbouring pixels a vector.
constexpr int64_t quad_channels = 4;

REPQ_FX_VNNI REPQ_FX_INLINE __m512i lane_numbers() {
  return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

// For channels whose columns are adjacent.
REPQ_FX_VNNI void quantize_planes(const QuantizeRow& row, const OutputGrid& output) {
  const LevelGrid grid(output);
  for (int64_t first = 0; first < row.stride; first += quad_channels) {
    const int64_t bytes = std::min(quad_channels, row.stride - first);
    for (int64_t x = 0; x < row.width; x += lanes) {
      const __mmask16 mask = first_lanes(row.width - x);
      __m512i pixels = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int64_t i = quad_channels - 1; i >= 0; --i) {
        __m512 values = _mm512_setzero_ps();  // Of what is behind the last channel.
        if (first + i < row.channels) {
          values = _mm512_maskz_loadu_ps(mask, row.values + (first + i) * row.channel_stride + x);
        }
        pixels = _mm512_or_si512(_mm512_maskz_slli_epi32(all, pixels, 8),
                                 grid.levels(grid.steps(values)));
      }
      uint8_t* levels = row.levels + x * row.stride + first;
      if (row.stride == quad_channels) {
        _mm512_mask_storeu_epi32(levels, mask, pixels);
        continue;
      }
      alignas(64) uint8_t quads[lanes][quad_channels];
      _mm512_store_si512(quads, pixels);
      for (int64_t i = 0; i < std::min(lanes, row.width - x); ++i) {
        if (bytes == quad_channels) {
          std::memcpy(levels + i * row.stride, quads[i], quad_channels);
        } else {
          std::copy_n(quads[i], bytes, levels + i * row.stride);
        }
      }
    }
  }
}

// For adjacent pixels of few channels, several of which fit a vector.
REPQ_FX_VNNI void quantize_small_pixels(const QuantizeRow& row, const OutputGrid& output) {
  const LevelGrid grid(output);
  const int64_t pixels = lanes / row.stride;
  // Where in a vector of levels each byte of the result is; nowhere where the top bit is set.
  alignas(16) uint8_t places[lanes], fill[lanes] = {};
  std::fill_n(places, lanes, uint8_t{0x80});
  for (int64_t i = 0; i < pixels * row.stride; ++i) {
    const int64_t pixel = i / row.stride, channel = i % row.stride;
    if (channel < row.channels) {
      places[i] = static_cast<uint8_t>(pixel * row.channels + channel);
    } else {
      fill[i] = static_cast<uint8_t>(output.zero_point);
    }
  }
  const __m128i order = _mm_load_si128(reinterpret_cast<const __m128i*>(places));
  const __m128i rest = _mm_load_si128(reinterpret_cast<const __m128i*>(fill));
  __mmask16 values_mask = first_lanes(pixels * row.channels);
  __mmask16 levels_mask = first_lanes(pixels * row.stride);
  for (int64_t x = 0; x < row.width; x += pixels) {
    if (const int64_t remaining = row.width - x; remaining < pixels) {
      values_mask = first_lanes(remaining * row.channels);
      levels_mask = first_lanes(remaining * row.stride);
    }
    const __m512 values = _mm512_maskz_loadu_ps(values_mask, row.values + x * row.channels);
    const __m128i levels = grid.round(grid.steps(values));
    _mm_mask_storeu_epi8(row.levels + x * row.stride, levels_mask,
                         _mm_or_si128(_mm_shuffle_epi8(levels, order), rest));
  }
}

// For pixels whose channels are adjacent, or else any two neighbours equally far apart.
template <bool adjacent>
REPQ_FX_VNNI void quantize_channels(const QuantizeRow& row, const OutputGrid& output) {
  const LevelGrid grid(output);
  const __m512i offsets = _mm512_mullo_epi32(
      lane_numbers(), _mm512_set1_epi32(static_cast<int32_t>(row.channel_stride)));
  for (int64_t x = 0; x < row.width; ++x) {
    const float* values = row.values + x * row.column_stride;
    uint8_t* levels = row.levels + x * row.stride;
    for (int64_t channel = 0; channel < row.channels; channel += lanes) {
      const __mmask16 mask = first_lanes(row.channels - channel);
      const float* first = values + channel * row.channel_stride;
      const __m512 numbers =
          adjacent ? _mm512_maskz_loadu_ps(mask, first)
                   : _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, offsets, first, 4);
      _mm_mask_storeu_epi8(levels + channel, mask, grid.round(grid.steps(numbers)));
    }
    std::fill(levels + row.channels, levels + row.stride, static_cast<uint8_t>(output.zero_point));
  }
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 to_values(__m512i levels, const InputGrid& grid) {
  const __m512i steps = _mm512_sub_epi32(levels, _mm512_set1_epi32(grid.zero_point));
  return _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(all, steps), _mm512_set1_ps(grid.scale));
}

REPQ_FX_VNNI void dequantize_planes(const DequantizeRow& row, const InputGrid& grid) {
  const __m512i offsets =
      _mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(static_cast<int32_t>(row.stride)));
  for (int64_t first = 0; first < row.channels; first += quad_channels) {
    for (int64_t x = 0; x < row.width; x += lanes) {
      const __mmask16 mask = first_lanes(row.width - x);
      __m512i pixels = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, offsets,
                                                   row.levels + x * row.stride + first, 1);
      for (int64_t i = first; i < std::min(first + quad_channels, row.channels); ++i) {
        const __m512i levels = _mm512_and_si512(pixels, _mm512_set1_epi32(0xFF));
        _mm512_mask_storeu_ps(row.values + i * row.channel_stride + x, mask,
                              to_values(levels, grid));
        pixels = _mm512_maskz_srli_epi32(all, pixels, 8);
      }
    }
  }
}

REPQ_FX_VNNI void dequantize_channels(const DequantizeRow& row, const InputGrid& grid) {
  for (int64_t x = 0; x < row.width; ++x) {
    for (int64_t channel = 0; channel < row.channels; channel += lanes) {
      const __mmask16 mask = first_lanes(row.channels - channel);
      const __m128i levels = _mm_maskz_loadu_epi8(mask, row.levels + x * row.stride + channel);
      _mm512_mask_storeu_ps(row.values + x * row.column_stride + channel, mask,
                            to_values(_mm512_maskz_cvtepu8_epi32(all, levels), grid));
    }
  }
}

}  // namespace

void quantize(const QuantizeRow& row, const OutputGrid& output) {
  constexpr int64_t farthest = INT32_MAX / lanes;  // That offsets of 32 bits reach.
  if (row.column_stride == 1) return quantize_planes(row, output);
  if (row.channel_stride > farthest) return portable::quantize(row, output);
  if (row.channel_stride != 1) return quantize_channels<false>(row, output);
  if (row.column_stride == row.channels && row.stride <= lanes) {
    return quantize_small_pixels(row, output);
  }
  quantize_channels<true>(row, output);
}

void dequantize(const DequantizeRow& row, const InputGrid& grid) {
  if (row.channel_stride == 1) return dequantize_channels(row, grid);
  if (row.column_stride == 1) return dequantize_planes(row, grid);
  portable::dequantize(row, grid);
}

}  // namespace repq_fx::avx512_vnni
#endif

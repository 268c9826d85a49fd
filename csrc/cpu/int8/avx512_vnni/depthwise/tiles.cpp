#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <array>
#include <cstdint>
#include <utility>

#include "cpu/int8/avx512_vnni/depthwise/tiles.h"
#include "cpu/int8/avx512_vnni/output_steps.h"
#include "cpu/int8/avx512_vnni/vector_math.h"

namespace repq_fx::avx512_vnni::depthwise {
namespace {

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

REPQ_FX_VNNI REPQ_FX_INLINE __m512i sums_of(const CoarseTap& tap, int row, int pixel, int v) {
  const int8_t* weights = tap.weights + row * block_bytes + v * vector_bytes;
  const uint8_t* quads = tap.data + tap.offsets[row] + pixel * block_bytes + v * vector_bytes;
  __m512i sums = _mm512_load_si512(tap.start + v * lanes);
  add_products(sums, _mm512_load_si512(quads), _mm512_load_si512(weights));
  return sums;
}

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
          const __m512 coarse_sum = _mm512_maskz_cvtepi32_ps(all, sums_of(coarse, row, pixel, v));
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
      store_sums({sums_of(coarse, row, pixel, 0), sums_of(coarse, row, pixel, 1),
                  sums_of(coarse, row, pixel, 2), sums_of(coarse, row, pixel, 3)},
                 out);
    }
  }
}

template <Activation activation, int rows, int pixels, bool has_coarse>
constexpr TileKernels kernels_of() {
  return {{to_levels<activation, rows, pixels, has_coarse, false>,
           to_levels<activation, rows, pixels, has_coarse, true>},
          to_sums<rows, pixels>,
          has_coarse ? coarse_to_sums<rows, pixels> : nullptr};
}

template <int rows, int pixels>
TileKernels kernels_for(const TileKind& kind) {
  return [&]<size_t... f>(std::index_sequence<f...>) {
    static constexpr std::array<std::array<TileKernels, 2>, sizeof...(f)> kernels = {
        {{kernels_of<register_functions[f], rows, pixels, false>(),
          kernels_of<register_functions[f], rows, pixels, true>()}...}};
    return kernels[register_function(kind.activation) % sizeof...(f)][kind.has_coarse];
  }(std::make_index_sequence<register_function_count>());
}

}  // namespace

TileKernels tile_kernels(int64_t rows, int64_t pixels, const TileKind& kind) {
  if (rows == 2) {
    if (pixels == 1) return kernels_for<2, 1>(kind);
    if (pixels == 2) return kernels_for<2, 2>(kind);
    return kernels_for<2, 3>(kind);
  }
  if (pixels == 1) return kernels_for<1, 1>(kind);
  if (pixels == 2) return kernels_for<1, 2>(kind);
  if (pixels == 3) return kernels_for<1, 3>(kind);
  if (pixels == 4) return kernels_for<1, 4>(kind);
  return kernels_for<1, 5>(kind);
}

}  // namespace repq_fx::avx512_vnni::depthwise
#endif

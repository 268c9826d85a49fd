#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "cpu/int8/avx512_vnni/convolution/products.h"
#include "cpu/int8/avx512_vnni/output_steps.h"
#include "cpu/int8/avx512_vnni/vector_math.h"

namespace repq_fx::avx512_vnni::convolution {

namespace {

// Loops over registers must be unrolled in full, or else the registers become memory.
#define REPQ_FX_UNROLL _Pragma("GCC unroll 16")

// The type in which `vpdpbusd` sums: with `__m512i` in its place GCC 12 copies each sum in each
// round of a loop.
using Int32x16 = int32_t __attribute__((vector_size(64)));

template <int64_t pixels, int64_t vectors>
struct Sums {
  Int32x16 values[pixels][vectors];

  REPQ_FX_VNNI REPQ_FX_INLINE Sums(const TileInputs& tile, const WeightBlock& block) {
    REPQ_FX_UNROLL
    for (int64_t p = 0; p < pixels; ++p) {
      REPQ_FX_UNROLL
      for (int64_t v = 0; v < vectors; ++v) {
        values[p][v] =
            reinterpret_cast<Int32x16>(_mm512_loadu_si512(block.start + v * vector_channels));
      }
    }
    const int8_t* weights = block.weights;
    const int64_t end = tile.quads * quad_channels;
    int64_t segment = 0, i = 0;
    const uint8_t* inputs[pixels];
    find_inputs(tile, segment, block.first_input, inputs);
    // One loop over all segments: of two nested ones GCC 12 keeps the sums in memory.
    while (true) {
      __m512i weight[vectors];
      REPQ_FX_UNROLL
      for (int64_t v = 0; v < vectors; ++v) weight[v] = _mm512_loadu_si512(weights + v * 64);
      _mm_prefetch(weights + tile.ahead, _MM_HINT_T1);
      weights += vectors * 64;
      REPQ_FX_UNROLL
      for (int64_t p = 0; p < pixels; ++p) {
        int32_t quad;
        std::memcpy(&quad, inputs[p] + i, sizeof(quad));
        const __m512i input = _mm512_set1_epi32(quad);
        REPQ_FX_UNROLL
        for (int64_t v = 0; v < vectors; ++v) {
          const auto sum = reinterpret_cast<__m512i>(values[p][v]);
          values[p][v] = reinterpret_cast<Int32x16>(_mm512_dpbusd_epi32(sum, input, weight[v]));
        }
      }
      i += quad_channels;
      if (i < end) continue;
      if (++segment == tile.segments) break;
      find_inputs(tile, segment, block.first_input, inputs);
      i = 0;
    }
  }

  REPQ_FX_INLINE static void find_inputs(const TileInputs& tile, int64_t segment,
                                         int64_t first_channel, const uint8_t* (&inputs)[pixels]) {
    const int64_t offset = tile.offsets[segment] + first_channel;
    REPQ_FX_UNROLL
    for (int64_t p = 0; p < pixels; ++p) inputs[p] = tile.inputs[segment * tile.step + p] + offset;
  }
};

template <int64_t pixels, int64_t vectors>
struct ScaledSums {
  __m512 values[pixels][vectors];

  REPQ_FX_VNNI REPQ_FX_INLINE ScaledSums(const Sums<pixels, vectors>& sums, Scaling scaling) {
    __m512 scale[vectors];
    REPQ_FX_UNROLL
    for (int64_t v = 0; v < vectors; ++v) {
      scale[v] = _mm512_loadu_ps(scaling.scale + v * vector_channels);
    }
    REPQ_FX_UNROLL
    for (int64_t p = 0; p < pixels; ++p) {
      const float* bias = scaling.bias + p * scaling.bias_step;
      REPQ_FX_UNROLL
      for (int64_t v = 0; v < vectors; ++v) {
        const auto sum = reinterpret_cast<__m512i>(sums.values[p][v]);
        values[p][v] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, sum), scale[v],
                                       _mm512_loadu_ps(bias + v * vector_channels));
      }
    }
  }
};

template <int64_t pixels, int64_t vectors>
REPQ_FX_VNNI void sum_products(const TileInputs& tile, const WeightBlock& block, int32_t* sums) {
  const Sums<pixels, vectors> result(tile, block);
  REPQ_FX_UNROLL
  for (int64_t p = 0; p < pixels; ++p) {
    REPQ_FX_UNROLL
    for (int64_t v = 0; v < vectors; ++v) {
      _mm512_storeu_si512(sums + (p * vectors + v) * vector_channels,
                          reinterpret_cast<__m512i>(result.values[p][v]));
    }
  }
}

template <int64_t pixels, int64_t vectors>
REPQ_FX_VNNI void scale_products(const TileInputs& tile, const WeightBlock& block,
                                 const Scaling& scaling, float* scaled) {
  const ScaledSums<pixels, vectors> result({tile, block}, scaling);
  REPQ_FX_UNROLL
  for (int64_t p = 0; p < pixels; ++p) {
    REPQ_FX_UNROLL
    for (int64_t v = 0; v < vectors; ++v) {
      _mm512_storeu_ps(scaled + (p * vectors + v) * vector_channels, result.values[p][v]);
    }
  }
}

// Stores the levels of pixels whose vectors fill one register, of which `count` pixels exist.
template <int64_t vectors>
REPQ_FX_VNNI REPQ_FX_INLINE void store_levels(__m512i levels, int64_t count, __mmask64 channels,
                                              uint8_t* output, int64_t stride) {
  if constexpr (vectors > 2) {
    _mm512_mask_storeu_epi8(output, channels, levels);
  } else if constexpr (vectors == 2) {
    const auto mask = static_cast<__mmask32>(channels);
    _mm256_mask_storeu_epi8(output, mask, _mm512_maskz_extracti64x4_epi64(-1, levels, 0));
    if (count < 2) return;
    _mm256_mask_storeu_epi8(output + stride, mask, _mm512_maskz_extracti64x4_epi64(-1, levels, 1));
  } else {
    const auto mask = static_cast<__mmask16>(channels);
    _mm_mask_storeu_epi8(output, mask, _mm512_maskz_extracti32x4_epi32(-1, levels, 0));
    if (count < 2) return;
    _mm_mask_storeu_epi8(output + stride, mask, _mm512_maskz_extracti32x4_epi32(-1, levels, 1));
    if (count < 3) return;
    _mm_mask_storeu_epi8(output + 2 * stride, mask, _mm512_maskz_extracti32x4_epi32(-1, levels, 2));
    if (count < 4) return;
    _mm_mask_storeu_epi8(output + 3 * stride, mask, _mm512_maskz_extracti32x4_epi32(-1, levels, 3));
  }
}

template <int64_t pixels, int64_t vectors, Activation activation>
REPQ_FX_VNNI void quantize_products(const TileInputs& tile, const WeightBlock& block,
                                    const Scaling& scaling, const LevelRange& range,
                                    const LevelTile& output) {
  ScaledSums<pixels, vectors> result({tile, block}, scaling);
  if constexpr (activation != Activation::none) {
    REPQ_FX_UNROLL
    for (int64_t p = 0; p < pixels; ++p) {
      REPQ_FX_UNROLL
      for (int64_t v = 0; v < vectors; ++v) {
        const __m512 unit = _mm512_loadu_ps(scaling.unit + v * vector_channels);
        const __m512 steps = result.values[p][v];
        result.values[p][v] = activate_steps<activation>(steps, _mm512_mul_ps(steps, unit));
      }
    }
  }
  const __m512i zero_point = _mm512_set1_epi16(static_cast<int16_t>(range.zero_point));
  const __m512i lowest = _mm512_set1_epi8(static_cast<char>(range.lowest));
  const __m512i highest = _mm512_set1_epi8(static_cast<char>(range.highest));
  const bool clips = range.lowest > 0 || range.highest < 255;
  // Packing works within 128 bits: the four vectors' shares of each come together.
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const auto channels =
      static_cast<__mmask64>(output.channels >= 64 ? -1 : (1LL << output.channels) - 1);
  const int64_t stride = output.stride;
  uint8_t* pixel = output.levels;
  constexpr int64_t pixels_at_once = std::max<int64_t>(1, 4 / vectors);
  REPQ_FX_UNROLL
  for (int64_t p = 0; p < pixels; p += pixels_at_once, pixel += pixels_at_once * stride) {
    __m512i steps[4];
    REPQ_FX_UNROLL
    for (int64_t i = 0; i < 4; ++i) {
      // What does not exist repeats the last.
      const int64_t index = std::min(i, std::min(pixels_at_once, pixels - p) * vectors - 1);
      steps[i] = _mm512_maskz_cvtps_epi32(all, result.values[p + index / vectors][index % vectors]);
    }
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), zero_point);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), zero_point);
    const __m512i packed = _mm512_packus_epi16(low, high);
    __m512i levels = _mm512_maskz_permutexvar_epi32(all, in_order, packed);
    if (clips) levels = _mm512_min_epu8(_mm512_max_epu8(levels, lowest), highest);
    store_levels<vectors>(levels, pixels - p, channels, pixel, stride);
  }
}

template <int64_t vectors>
constexpr ProductKernels kernels_for() {
  return []<size_t... p>(std::index_sequence<p...>) {
    constexpr auto quantize_after = []<Activation activation>() {
      return std::array<ProductKernels::Quantize, max_pixels>{
          quantize_products<p + 1, vectors, activation>...};
    };
    return [&]<size_t... f>(std::index_sequence<f...>) {
      return ProductKernels{{sum_products<p + 1, vectors>...},
                            {scale_products<p + 1, vectors>...},
                            {quantize_after.template operator()<register_functions[f]>()...}};
    }(std::make_index_sequence<register_function_count>());
  }(std::make_index_sequence<tile_pixels_of(vectors)>());
}

}  // namespace

REPQ_FX_VNNI
void add_to_bias(const Addend& addend, int64_t pixels, int64_t vectors, const Scaling& scaling,
                 float* sums) {
  const __m512i zero_point = _mm512_set1_epi32(addend.zero_point);
  for (int64_t v = 0; v < vectors; ++v) {
    const int64_t c = v * vector_channels;
    const __m512 scale = _mm512_loadu_ps(addend.scale + c);
    const __mmask16 mask = first_lanes(addend.channels - c);
    for (int64_t p = 0; p < pixels; ++p) {
      const __m128i levels = _mm_maskz_loadu_epi8(mask, addend.levels + p * addend.stride + c);
      const __m512i steps = _mm512_sub_epi32(_mm512_maskz_cvtepu8_epi32(all, levels), zero_point);
      const __m512 bias = _mm512_loadu_ps(scaling.bias + p * scaling.bias_step + c);
      const __m512 sum = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, steps), scale, bias);
      _mm512_storeu_ps(sums + p * vectors * vector_channels + c, sum);
    }
  }
}

const std::array<ProductKernels, max_vectors> product_kernels = {
    kernels_for<1>(), kernels_for<2>(), kernels_for<3>(), kernels_for<4>()};

}  // namespace repq_fx::avx512_vnni::convolution
#endif

// Sums, differences and products of two 8-bit images.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels/epilogue.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

enum class Combination : int8_t { sum, difference, product };

// value = (a - a_zero) * a_scale (+ or - or *) (b - b_zero) * b_scale, which becomes a level as in
// `Epilogue`, whose other numbers are not read.
struct CombineSettings {
  Combination combination;
  float a_scale, b_scale;
  int32_t a_zero, b_zero;
  Epilogue epilogue;
};

// Neighbouring pixels.
struct PixelPair {
  const uint8_t* a;
  const uint8_t* b;
  uint8_t* levels;
  int64_t a_stride, b_stride, stride;  // `b_stride` is 0 where one pixel of b meets all of a.
  int64_t pixels, channels;
};

namespace portable {

inline float combine(float a, float b, Combination combination) {
  switch (combination) {
    case Combination::sum:
      return a + b;
    case Combination::difference:
      return a - b;
    case Combination::product:
      return a * b;
  }
  return a;
}

inline void combine(const PixelPair& pair, const CombineSettings& settings) {
  for (int64_t pixel = 0; pixel < pair.pixels; ++pixel) {
    for (int64_t channel = 0; channel < pair.channels; ++channel) {
      const int32_t a = pair.a[pixel * pair.a_stride + channel] - settings.a_zero;
      const int32_t b = pair.b[pixel * pair.b_stride + channel] - settings.b_zero;
      const float value = combine(static_cast<float>(a) * settings.a_scale,
                                  static_cast<float>(b) * settings.b_scale, settings.combination);
      pair.levels[pixel * pair.stride + channel] =
          to_level(value_of(value, channel, settings.epilogue), settings.epilogue);
    }
  }
}

}  // namespace portable

#ifdef REPQ_FX_AVX512
namespace avx512 {

template <Combination combination>
REPQ_FX_VNNI REPQ_FX_INLINE __m512 combine(__m512 a, __m512 b) {
  switch (combination) {
    case Combination::sum:
      return _mm512_add_ps(a, b);
    case Combination::difference:
      return _mm512_sub_ps(a, b);
    case Combination::product:
      return _mm512_mul_ps(a, b);
  }
  return a;
}

// An image's grid, one value in all lanes.
struct ValueGrid {
  __m512 scale;
  __m512i zero;

  REPQ_FX_VNNI REPQ_FX_INLINE ValueGrid(float scale, int32_t zero)
      : scale(_mm512_set1_ps(scale)), zero(_mm512_set1_epi32(zero)) {}

  REPQ_FX_VNNI REPQ_FX_INLINE __m512 values(const uint8_t* levels) const {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels));
    const __m512i steps = _mm512_sub_epi32(_mm512_maskz_cvtepu8_epi32(all, bytes), zero);
    return _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(all, steps), scale);
  }
};

template <Combination combination, Activation activation>
REPQ_FX_VNNI void combine_activated(const PixelPair& pair, const CombineSettings& settings) {
  const ValueGrid a_grid(settings.a_scale, settings.a_zero);
  const ValueGrid b_grid(settings.b_scale, settings.b_zero);
  const LevelGrid grid(settings.epilogue);
  const Epilogue& epilogue = settings.epilogue;
  const bool differs = epilogue.differs_by_channel();
  ChannelScale scale(epilogue, 0, first_lanes(pair.channels), epilogue.inverse_scale);
  const int64_t whole = pair.channels / lanes * lanes;
  const __mmask16 rest = first_lanes(pair.channels - whole);
  const uint8_t* a = pair.a;
  const uint8_t* b = pair.b;
  uint8_t* levels = pair.levels;
  for (int64_t pixel = 0; pixel < pair.pixels; ++pixel) {
    for (int64_t c = 0; c < pair.channels; c += lanes) {
      // The bytes behind the last channel may be read.
      const __m512 value = combine<combination>(a_grid.values(a + c), b_grid.values(b + c));
      if (differs) {
        scale = {epilogue, c, first_lanes(pair.channels - c), epilogue.inverse_scale};
      }
      const __m128i result = grid.round(scale.apply(activate<activation>(value, epilogue.slope)));
      if (c < whole) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(levels + c), result);
      } else {
        _mm_mask_storeu_epi8(levels + c, rest, result);
      }
    }
    a += pair.a_stride;
    b += pair.b_stride;
    levels += pair.stride;
  }
}

template <Activation activation>
void combine_activated(const PixelPair& pair, const CombineSettings& settings) {
  switch (settings.combination) {
    case Combination::sum:
      return combine_activated<Combination::sum, activation>(pair, settings);
    case Combination::difference:
      return combine_activated<Combination::difference, activation>(pair, settings);
    case Combination::product:
      return combine_activated<Combination::product, activation>(pair, settings);
  }
}

inline void combine(const PixelPair& pair, const CombineSettings& settings) {
  switch (settings.epilogue.activation) {
    case Activation::none:
      return combine_activated<Activation::none>(pair, settings);
    case Activation::silu:
      return combine_activated<Activation::silu>(pair, settings);
    case Activation::sigmoid:
      return combine_activated<Activation::sigmoid>(pair, settings);
    case Activation::hard_swish:
      return combine_activated<Activation::hard_swish>(pair, settings);
    case Activation::hard_sigmoid:
      return combine_activated<Activation::hard_sigmoid>(pair, settings);
    case Activation::gelu:
      return combine_activated<Activation::gelu>(pair, settings);
    case Activation::gelu_tanh:
      return combine_activated<Activation::gelu_tanh>(pair, settings);
    case Activation::leaky_relu:
      return combine_activated<Activation::leaky_relu>(pair, settings);
  }
}

}  // namespace avx512
#endif

// The pixels from `first` to `last`, counted over the whole batch. Where b has one pixel for each
// image, it meets all of the image's pixels.
inline void combine(const InputImage& a, const InputImage& b, const OutputImage& output,
                    const CombineSettings& settings, int64_t first, int64_t last) {
  const int64_t area = a.height * a.width;
  const bool broadcast = b.pixels() != a.pixels();
  while (first < last) {
    const int64_t end = broadcast ? std::min(last, (first / area + 1) * area) : last;
    PixelPair pair{.a = a.data + first * a.stride,
                   .b = b.data + (broadcast ? first / area : first) * b.stride,
                   .levels = output.data + first * output.stride,
                   .a_stride = a.stride,
                   .b_stride = broadcast ? 0 : b.stride,
                   .stride = output.stride,
                   .pixels = end - first,
                   .channels = a.channels};
    // Pixels without gaps are one, where their channels are alike.
    if (!broadcast && !settings.epilogue.differs_by_channel() && a.stride == a.channels &&
        b.stride == a.channels && output.stride == a.channels) {
      pair.channels *= pair.pixels;
      pair.pixels = 1;
    }
#ifdef REPQ_FX_AVX512
    if (has_vnni()) {
      avx512::combine(pair, settings);
    } else
#endif
      portable::combine(pair, settings);
    first = end;
  }
}

}  // namespace repq_fx

// What follows the integer sums of a layer: scale, bias, an added image, an activation function and
// the rounding to 8 bits, while the sums are in a tile that fits L1.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cpu/int8/channel_numbers.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

// Those that only clip need no function: they are bounds of the output's levels.
enum class Activation : int8_t {
  none,
  silu,
  sigmoid,
  hard_swish,
  hard_sigmoid,
  gelu,
  gelu_tanh,
  leaky_relu,
};

// x = sum * scale[channel] + bias[channel] + extra + (addend - zero) * addend_scale
// value = activation(x) * factor[channel] + offset[channel]
// level = clamp(round_to_even(value * inverse_scale) + zero_point, lowest, highest)
struct Epilogue {
  const float* scale;  // [channels]: of the input times that of the weight.
  const float* bias;   // [channels]
  Activation activation = Activation::none;
  float slope = 0;  // Of `leaky_relu` below zero.
  ChannelNumbers factor{{1}}, offset{{0}};
  float addend_scale = 0;
  int32_t addend_zero = 0;
  float inverse_scale = 0;
  int32_t zero_point = 0, lowest = 0, highest = 255;

  bool has_offset() const {
    return !offset.all([](float number) { return number == 0; });
  }
  bool differs_by_channel() const { return factor.differ() || offset.differ(); }
};

// Sums of neighbouring pixels. The rows of `sums` and `extra` are `stride` apart, those of the
// others as the images they belong to.
struct SumTile {
  const int32_t* sums;  // [pixels][channels]
  const float* extra;   // [pixels][channels], what is added in real units; or null.
  int64_t stride;
  int64_t pixels, channels;
  int64_t first_channel;  // Into the epilogue's numbers of each channel.
  const uint8_t* addend;  // The first pixel's first channel; or null.
  int64_t addend_stride;
  uint8_t* levels;  // The first pixel's first channel; null for a result in float32.
  float* values;    // The same for float32; or null.
  int64_t output_stride;
};

namespace portable {

inline float activate(float x, const Epilogue& epilogue) {
  const auto hard_sigmoid = [](float v) { return std::clamp(v + 3.0f, 0.0f, 6.0f) / 6.0f; };
  switch (epilogue.activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1.0f + std::exp(-x));
    case Activation::sigmoid:
      return 1.0f / (1.0f + std::exp(-x));
    case Activation::hard_swish:
      return x * hard_sigmoid(x);
    case Activation::hard_sigmoid:
      return hard_sigmoid(x);
    case Activation::gelu:
      return 0.5f * x * (1.0f + std::erf(x * static_cast<float>(M_SQRT1_2)));
    case Activation::gelu_tanh: {
      const float inner = x + 0.044715f * x * x * x;
      return x / (1.0f + std::exp(inner * static_cast<float>(-2 * M_2_SQRTPI * M_SQRT1_2)));
    }
    case Activation::leaky_relu:
      return x < 0 ? x * epilogue.slope : x;
  }
  return x;
}

inline float value_of(float x, int64_t channel, const Epilogue& epilogue) {
  return activate(x, epilogue) * epilogue.factor[channel] + epilogue.offset[channel];
}

inline uint8_t to_level(float value, const Epilogue& epilogue) {
  const float steps = value * epilogue.inverse_scale;
  const auto lowest = static_cast<float>(epilogue.lowest - epilogue.zero_point);
  const auto highest = static_cast<float>(epilogue.highest - epilogue.zero_point);
  const float inside = std::min(std::max(lowest, steps), highest);  // Of a NaN, `lowest`.
  // Adding and taking away 1.5 * 2**23 rounds to an integer, ties to even, without a call.
  constexpr float round = 0x1.8p23f;
  return static_cast<uint8_t>(static_cast<int32_t>((inside + round) - round) + epilogue.zero_point);
}

inline void finish(const SumTile& tile, const Epilogue& epilogue) {
  const float* scale = epilogue.scale + tile.first_channel;
  const float* bias = epilogue.bias + tile.first_channel;
  for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
    for (int64_t channel = 0; channel < tile.channels; ++channel) {
      const int64_t i = pixel * tile.stride + channel;
      float value = static_cast<float>(tile.sums[i]) * scale[channel] + bias[channel];
      if (tile.extra != nullptr) value += tile.extra[i];
      if (tile.addend != nullptr) {
        const int32_t level = tile.addend[pixel * tile.addend_stride + channel];
        value += static_cast<float>(level - epilogue.addend_zero) * epilogue.addend_scale;
      }
      value = value_of(value, tile.first_channel + channel, epilogue);
      const int64_t o = pixel * tile.output_stride + channel;
      if (tile.levels != nullptr) {
        tile.levels[o] = to_level(value, epilogue);
      } else {
        tile.values[o] = value;
      }
    }
  }
}

}  // namespace portable

#ifdef REPQ_FX_AVX512
namespace avx512 {

constexpr int64_t lanes = 16;
// The plain intrinsics leave lanes undefined, of which GCC 12 warns (https://gcc.gnu.org/PR105593);
// with the full mask they cost the same.
constexpr __mmask16 all = 0xFFFF;

REPQ_FX_VNNI REPQ_FX_INLINE __mmask16 first_lanes(int64_t count) {
  return count >= lanes ? all : static_cast<__mmask16>((1U << count) - 1);
}

// 2**x for x up to 127; 0 below -126, as arithmetic on subnormal numbers takes a hundred times
// longer. The error is below 2e-7 of the result.
REPQ_FX_VNNI REPQ_FX_INLINE __m512 power_of_two(__m512 x) {
  constexpr auto ln2 = static_cast<float>(M_LN2);
  const __m512 t = _mm512_maskz_max_ps(all, _mm512_maskz_min_ps(all, x, _mm512_set1_ps(127)),
                                       _mm512_set1_ps(-127));
  const __m512 whole = _mm512_maskz_roundscale_ps(all, t, _MM_FROUND_TO_NEAREST_INT);
  const __m512 z = _mm512_mul_ps(_mm512_sub_ps(t, whole), _mm512_set1_ps(ln2));
  __m512 sum = _mm512_set1_ps(static_cast<float>(1.0 / 720));
  for (const double term : {1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1.0, 1.0}) {
    sum = _mm512_fmadd_ps(sum, z, _mm512_set1_ps(static_cast<float>(term)));
  }
  const __mmask16 normal = _mm512_cmp_ps_mask(t, _mm512_set1_ps(-126), _CMP_GT_OQ);
  return _mm512_maskz_scalef_ps(normal, sum, whole);
}

constexpr auto log2e = static_cast<float>(M_LOG2E);

REPQ_FX_VNNI REPQ_FX_INLINE __m512 exponential(__m512 x) {
  return power_of_two(_mm512_mul_ps(x, _mm512_set1_ps(log2e)));
}

// 1 / x for x from 1 on: an approximation to 14 bits and one step of Newton's, which take half the
// time of a division. The error is below 2e-7 of the result.
REPQ_FX_VNNI REPQ_FX_INLINE __m512 reciprocal(__m512 x) {
  const __m512 rough = _mm512_maskz_rcp14_ps(all, x);
  return _mm512_mul_ps(rough, _mm512_fnmadd_ps(x, rough, _mm512_set1_ps(2)));
}

// x / (1 + e**-y)
REPQ_FX_VNNI REPQ_FX_INLINE __m512 times_sigmoid(__m512 x, __m512 y) {
  const __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), y));
  return _mm512_mul_ps(x, reciprocal(_mm512_add_ps(e, _mm512_set1_ps(1))));
}

REPQ_FX_VNNI REPQ_FX_INLINE __m512 hard_sigmoid(__m512 x) {
  const __m512 clipped = _mm512_maskz_min_ps(
      all, _mm512_maskz_max_ps(all, _mm512_add_ps(x, _mm512_set1_ps(3)), _mm512_setzero_ps()),
      _mm512_set1_ps(6));
  return _mm512_mul_ps(clipped, _mm512_set1_ps(static_cast<float>(1.0 / 6)));
}

// The error function by formula 7.1.26 of Abramowitz and Stegun: its error is below 1.5e-7.
REPQ_FX_VNNI REPQ_FX_INLINE __m512 gelu(__m512 x) {
  const __m512 magnitude =
      _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(static_cast<float>(M_SQRT1_2)));
  const __m512 one = _mm512_set1_ps(1);
  const __m512 t = reciprocal(_mm512_fmadd_ps(magnitude, _mm512_set1_ps(0.3275911f), one));
  __m512 sum = _mm512_set1_ps(1.061405429f);
  for (const float term : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) {
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(term));
  }
  const __m512 square = _mm512_mul_ps(magnitude, magnitude);
  // 1 - erf(|x| / sqrt(2)), of which half is the share of a negative x.
  const __m512 rest =
      _mm512_mul_ps(_mm512_mul_ps(sum, t), exponential(_mm512_sub_ps(_mm512_setzero_ps(), square)));
  const __m512 half = _mm512_mul_ps(_mm512_mul_ps(x, rest), _mm512_set1_ps(0.5f));
  const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
  return _mm512_mask_sub_ps(half, positive, x, half);
}

template <Activation activation>
REPQ_FX_VNNI REPQ_FX_INLINE __m512 activate(__m512 x, float slope) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return times_sigmoid(x, x);
    case Activation::sigmoid:
      return times_sigmoid(_mm512_set1_ps(1), x);
    case Activation::hard_swish:
      return _mm512_mul_ps(x, hard_sigmoid(x));
    case Activation::hard_sigmoid:
      return hard_sigmoid(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_tanh: {
      const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
      const __m512 inner = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
      constexpr auto factor = static_cast<float>(2 * M_2_SQRTPI * M_SQRT1_2);
      return times_sigmoid(x, _mm512_mul_ps(inner, _mm512_set1_ps(factor)));
    }
    case Activation::leaky_relu: {
      const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
      return _mm512_mask_mul_ps(x, negative, x, _mm512_set1_ps(slope));
    }
  }
  return x;
}

// The grid of an output, one value in all lanes.
struct LevelGrid {
  __m512 inverse_scale, lowest, highest;  // The last two in steps of the output.
  __m512i zero_point;

  REPQ_FX_VNNI REPQ_FX_INLINE explicit LevelGrid(const Epilogue& epilogue)
      : inverse_scale(_mm512_set1_ps(epilogue.inverse_scale)),
        lowest(_mm512_set1_ps(static_cast<float>(epilogue.lowest - epilogue.zero_point))),
        highest(_mm512_set1_ps(static_cast<float>(epilogue.highest - epilogue.zero_point))),
        zero_point(_mm512_set1_epi32(epilogue.zero_point)) {}

  // Real numbers in steps of the output.
  REPQ_FX_VNNI REPQ_FX_INLINE __m512 steps(__m512 values) const {
    return _mm512_mul_ps(values, inverse_scale);
  }

  // 16 levels, as 32-bit numbers, of what is already in steps of the output.
  REPQ_FX_VNNI REPQ_FX_INLINE __m512i levels(__m512 steps) const {
    const __m512 inside =
        _mm512_maskz_min_ps(all, _mm512_maskz_max_ps(all, steps, lowest), highest);
    return _mm512_add_epi32(_mm512_maskz_cvtps_epi32(all, inside), zero_point);
  }

  REPQ_FX_VNNI REPQ_FX_INLINE __m128i round(__m512 steps) const {
    return _mm512_maskz_cvtepi32_epi8(all, levels(steps));
  }
};

// Factor and offset of 16 channels, times `unit`.
struct ChannelScale {
  __m512 factor, offset;

  REPQ_FX_VNNI REPQ_FX_INLINE ChannelScale(const Epilogue& epilogue, int64_t first, __mmask16 mask,
                                           float unit)
      : factor(load(epilogue.factor, first, mask, unit)),
        offset(load(epilogue.offset, first, mask, unit)) {}

  REPQ_FX_VNNI REPQ_FX_INLINE __m512 apply(__m512 activated) const {
    return _mm512_fmadd_ps(activated, factor, offset);
  }

 private:
  REPQ_FX_VNNI REPQ_FX_INLINE static __m512 load(const ChannelNumbers& numbers, int64_t first,
                                                 __mmask16 mask, float unit) {
    if (!numbers.differ()) return _mm512_set1_ps(numbers[0] * unit);
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, numbers.from(first)), _mm512_set1_ps(unit));
  }
};

template <Activation activation>
REPQ_FX_VNNI void finish_activated(const SumTile& tile, const Epilogue& epilogue) {
  const LevelGrid grid(epilogue);
  const float unit = tile.levels == nullptr ? 1 : epilogue.inverse_scale;
  const bool differs = epilogue.differs_by_channel();
  ChannelScale channel_scale(epilogue, 0, first_lanes(tile.channels), unit);
  const __m512 addend_scale = _mm512_set1_ps(epilogue.addend_scale);
  const __m512i addend_zero = _mm512_set1_epi32(epilogue.addend_zero);
  for (int64_t c = 0; c < tile.channels; c += lanes) {
    const __mmask16 mask = first_lanes(tile.channels - c);
    const int64_t first = tile.first_channel + c;
    const __m512 scale = _mm512_maskz_loadu_ps(mask, epilogue.scale + first);
    const __m512 bias = _mm512_maskz_loadu_ps(mask, epilogue.bias + first);
    if (differs) channel_scale = {epilogue, first, mask, unit};
    for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
      const __m512i sums = _mm512_maskz_loadu_epi32(mask, tile.sums + pixel * tile.stride + c);
      __m512 value = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, sums), scale, bias);
      if (tile.extra != nullptr) {
        const float* extra = tile.extra + pixel * tile.stride + c;
        value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, extra));
      }
      if (tile.addend != nullptr) {
        const uint8_t* addend = tile.addend + pixel * tile.addend_stride + c;
        const __m512i levels = _mm512_maskz_cvtepu8_epi32(all, _mm_maskz_loadu_epi8(mask, addend));
        const __m512i steps = _mm512_sub_epi32(levels, addend_zero);
        value = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, steps), addend_scale, value);
      }
      value = channel_scale.apply(activate<activation>(value, epilogue.slope));
      const int64_t o = pixel * tile.output_stride + c;
      if (tile.levels != nullptr) {
        _mm_mask_storeu_epi8(tile.levels + o, mask, grid.round(value));
      } else {
        _mm512_mask_storeu_ps(tile.values + o, mask, value);
      }
    }
  }
}

REPQ_FX_VNNI inline void finish(const SumTile& tile, const Epilogue& epilogue) {
  switch (epilogue.activation) {
    case Activation::none:
      return finish_activated<Activation::none>(tile, epilogue);
    case Activation::silu:
      return finish_activated<Activation::silu>(tile, epilogue);
    case Activation::sigmoid:
      return finish_activated<Activation::sigmoid>(tile, epilogue);
    case Activation::hard_swish:
      return finish_activated<Activation::hard_swish>(tile, epilogue);
    case Activation::hard_sigmoid:
      return finish_activated<Activation::hard_sigmoid>(tile, epilogue);
    case Activation::gelu:
      return finish_activated<Activation::gelu>(tile, epilogue);
    case Activation::gelu_tanh:
      return finish_activated<Activation::gelu_tanh>(tile, epilogue);
    case Activation::leaky_relu:
      return finish_activated<Activation::leaky_relu>(tile, epilogue);
  }
}

}  // namespace avx512
#endif

// Whether the kernels in namespace `avx512` run here; they give the levels of the portable ones but
// for rare ties of the float32 rounding. torch's ATEN_CPU_CAPABILITY can rule them out.
inline bool has_vnni() {
#ifdef REPQ_FX_AVX512
  static const bool supported = [] {
    const char* capability = std::getenv("ATEN_CPU_CAPABILITY");
    return (capability == nullptr || std::string_view(capability) == "avx512") &&
           __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
  }();
  return supported;
#else
  return false;
#endif
}

// Turns the sums of a tile into levels or values.
inline void finish(const SumTile& tile, const Epilogue& epilogue) {
#ifdef REPQ_FX_AVX512
  if (has_vnni()) return avx512::finish(tile, epilogue);
#endif
  portable::finish(tile, epilogue);
}

}  // namespace repq_fx

#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <cstdint>

#include "cpu/int8/avx512_vnni/activations.h"
#include "cpu/int8/avx512_vnni/kernels.h"
#include "cpu/int8/avx512_vnni/level_grid.h"
#include "cpu/int8/avx512_vnni/vector_math.h"

namespace repq_fx::avx512_vnni {
namespace {

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

  REPQ_FX_VNNI REPQ_FX_INLINE explicit ValueGrid(const InputGrid& grid)
      : scale(_mm512_set1_ps(grid.scale)), zero(_mm512_set1_epi32(grid.zero_point)) {}

  REPQ_FX_VNNI REPQ_FX_INLINE __m512 values(const uint8_t* levels) const {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels));
    const __m512i steps = _mm512_sub_epi32(_mm512_maskz_cvtepu8_epi32(all, bytes), zero);
    return _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(all, steps), scale);
  }
};

template <Combination combination, Activation activation>
REPQ_FX_VNNI void combine_after(const PixelPair& pair, const CombineSettings& settings) {
  const ValueGrid a_grid(settings.a);
  const ValueGrid b_grid(settings.b);
  const LevelGrid grid(settings.output);
  const OutputFunction& function = settings.function;
  const float unit = settings.output.inverse_scale;
  const bool differs = function.differs_by_channel();
  ChannelScale scale(function, 0, first_lanes(pair.channels), unit);
  const int64_t whole = pair.channels / lanes * lanes;
  const __mmask16 rest = first_lanes(pair.channels - whole);
  const uint8_t* a = pair.a;
  const uint8_t* b = pair.b;
  uint8_t* levels = pair.levels;
  for (int64_t pixel = 0; pixel < pair.pixels; ++pixel) {
    for (int64_t c = 0; c < pair.channels; c += lanes) {
      // The bytes behind the last channel may be read.
      const __m512 value = combine<combination>(a_grid.values(a + c), b_grid.values(b + c));
      if (differs) scale = {function, c, first_lanes(pair.channels - c), unit};
      const __m128i result = grid.round(scale.apply(activate<activation>(value, function.slope)));
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

template <Combination combination>
void combine_each(const PixelPair& pair, const CombineSettings& settings) {
#define REPQ_FX_INSTANCE(name) combine_after<combination, Activation::name>,
  static constexpr decltype(&combine_after<combination, Activation::none>) instances[] = {
      REPQ_FX_ACTIVATIONS(REPQ_FX_INSTANCE)};
#undef REPQ_FX_INSTANCE
  instances[static_cast<int64_t>(settings.function.activation)](pair, settings);
}

}  // namespace

void combine(const PixelPair& pair, const CombineSettings& settings) {
  switch (settings.combination) {
    case Combination::sum:
      return combine_each<Combination::sum>(pair, settings);
    case Combination::difference:
      return combine_each<Combination::difference>(pair, settings);
    case Combination::product:
      return combine_each<Combination::product>(pair, settings);
  }
}

}  // namespace repq_fx::avx512_vnni
#endif

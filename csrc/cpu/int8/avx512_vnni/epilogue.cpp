#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <cstdint>

#include "cpu/int8/avx512_vnni/activations.h"
#include "cpu/int8/avx512_vnni/epilogue.h"
#include "cpu/int8/avx512_vnni/level_grid.h"
#include "cpu/int8/avx512_vnni/vector_math.h"

namespace repq_fx::avx512_vnni {
namespace {

template <Activation activation>
REPQ_FX_VNNI void finish_after(const SumTile& tile, const Layer& layer) {
  const OutputFunction& function = layer.function;
  const LevelGrid grid(layer.output);
  const float unit = tile.levels == nullptr ? 1 : layer.output.inverse_scale;
  const bool differs = function.differs_by_channel();
  ChannelScale channel_scale(function, 0, first_lanes(tile.channels), unit);
  const __m512 addend_scale = _mm512_set1_ps(layer.addend.scale);
  const __m512i addend_zero = _mm512_set1_epi32(layer.addend.zero_point);
  for (int64_t c = 0; c < tile.channels; c += lanes) {
    const __mmask16 mask = first_lanes(tile.channels - c);
    const int64_t first = tile.first_channel + c;
    const __m512 scale = _mm512_maskz_loadu_ps(mask, layer.scale.data() + first);
    const __m512 bias = _mm512_maskz_loadu_ps(mask, layer.bias.data() + first);
    if (differs) channel_scale = {function, first, mask, unit};
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
      value = channel_scale.apply(activate<activation>(value, function.slope));
      const int64_t o = pixel * tile.output_stride + c;
      if (tile.levels != nullptr) {
        _mm_mask_storeu_epi8(tile.levels + o, mask, grid.round(value));
      } else {
        _mm512_mask_storeu_ps(tile.values + o, mask, value);
      }
    }
  }
}

}  // namespace

void finish(const SumTile& tile, const Layer& layer) {
#define REPQ_FX_INSTANCE(name) finish_after<Activation::name>,
  static constexpr decltype(&finish_after<Activation::none>) instances[] = {
      REPQ_FX_ACTIVATIONS(REPQ_FX_INSTANCE)};
#undef REPQ_FX_INSTANCE
  instances[static_cast<int64_t>(layer.function.activation)](tile, layer);
}

}  // namespace repq_fx::avx512_vnni
#endif

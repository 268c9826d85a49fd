#include "cpu/int8/portable/epilogue.h"

#include <cstdint>

#include "cpu/int8/activations.h"
#include "cpu/int8/layer.h"

namespace repq_fx::portable {
namespace {

template <Activation activation>
void finish_after(const PixelSums& sums, const Layer& layer, const LayerOutput& output,
                  int64_t index) {
  const int64_t first = sums.first_channel, channels = sums.channels;
  const int32_t* const fine = sums.fine;
  const int32_t* const coarse = sums.coarse;
  const float* const scale = layer.scale.data() + first;
  const float* const bias = layer.bias.data() + first;
  const float* const coarse_scale = coarse == nullptr ? nullptr : layer.coarse_scale.data() + first;
  const InputGrid addend_grid = layer.addend;
  const uint8_t* const addend =
      output.addend == nullptr ? nullptr : output.addend + index * output.addend_stride + first;
  const Function<activation> function(layer.function, first);
  const Rounding rounding(layer.output);
  const int64_t o = index * output.stride + first;
  uint8_t* const levels = output.levels == nullptr ? nullptr : output.levels + o;
  float* const values = output.levels == nullptr ? output.values + o : nullptr;
  for (int64_t i = 0; i < channels; ++i) {
    float x = static_cast<float>(fine[i]) * scale[i] + bias[i];
    if (coarse != nullptr) x += static_cast<float>(coarse[i]) * coarse_scale[i];
    if (addend != nullptr) {
      x += static_cast<float>(addend[i] - addend_grid.zero_point) * addend_grid.scale;
    }
    const float value = function.value(x, i);
    if (levels != nullptr) {
      levels[i] = rounding.level(value);
    } else {
      values[i] = value;
    }
  }
}

}  // namespace

void finish(const PixelSums& sums, const Layer& layer, const LayerOutput& output, int64_t index) {
#define REPQ_FX_INSTANCE(name) finish_after<Activation::name>,
  static constexpr decltype(&finish_after<Activation::none>) instances[] = {
      REPQ_FX_ACTIVATIONS(REPQ_FX_INSTANCE)};
#undef REPQ_FX_INSTANCE
  instances[static_cast<int64_t>(layer.function.activation)](sums, layer, output, index);
}

}  // namespace repq_fx::portable

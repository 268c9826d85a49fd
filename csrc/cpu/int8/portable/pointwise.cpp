// Single elements: between real numbers and levels, and from levels to levels.
#include <algorithm>
#include <cstdint>

#include "cpu/int8/portable/epilogue.h"
#include "cpu/int8/portable/kernels.h"

namespace repq_fx::portable {

void quantize(const QuantizeRow& row, const OutputGrid& grid) {
  const Rounding rounding(grid);
  const int64_t channels = row.channels, step = row.channel_stride;
  for (int64_t x = 0; x < row.width; ++x) {
    uint8_t* const pixel = row.levels + x * row.stride;
    const float* const values = row.values + x * row.column_stride;
    for (int64_t i = 0; i < channels; ++i) pixel[i] = rounding.level(values[i * step]);
    std::fill(pixel + channels, pixel + row.stride, static_cast<uint8_t>(grid.zero_point));
  }
}

void dequantize(const DequantizeRow& row, const InputGrid& grid) {
  for (int64_t x = 0; x < row.width; ++x) {
    for (int64_t channel = 0; channel < row.channels; ++channel) {
      const int32_t steps = row.levels[x * row.stride + channel] - grid.zero_point;
      row.values[x * row.column_stride + channel * row.channel_stride] =
          static_cast<float>(steps) * grid.scale;
    }
  }
}

void lookup(const LevelRow& row, const LevelTable& table) {
  const int64_t channels = row.channels;
  for (int64_t pixel = 0; pixel < row.pixels; ++pixel) {
    const uint8_t* const from = row.input + pixel * row.input_stride;
    uint8_t* const to = row.output + pixel * row.output_stride;
    for (int64_t i = 0; i < channels; ++i) to[i] = table[from[i]];
  }
}

void channel_lookup(const LevelRow& row, const LevelTable* tables) {
  const int64_t channels = row.channels;
  for (int64_t pixel = 0; pixel < row.pixels; ++pixel) {
    const uint8_t* const from = row.input + pixel * row.input_stride;
    uint8_t* const to = row.output + pixel * row.output_stride;
    for (int64_t i = 0; i < channels; ++i) to[i] = tables[i][from[i]];
  }
}

namespace {

template <Combination combination>
float combine(float a, float b) {
  if constexpr (combination == Combination::sum) return a + b;
  if constexpr (combination == Combination::difference) return a - b;
  return a * b;
}

template <Combination combination, Activation activation>
void combine_after(const PixelPair& pair, const CombineSettings& settings) {
  const InputGrid a_grid = settings.a, b_grid = settings.b;
  const Function<activation> function(settings.function, 0);
  const Rounding rounding(settings.output);
  const int64_t channels = pair.channels;
  const auto value = [](uint8_t level, const InputGrid& grid) {
    return static_cast<float>(level - grid.zero_point) * grid.scale;
  };
  for (int64_t pixel = 0; pixel < pair.pixels; ++pixel) {
    const uint8_t* const a = pair.a + pixel * pair.a_stride;
    const uint8_t* const b = pair.b + pixel * pair.b_stride;
    uint8_t* const levels = pair.levels + pixel * pair.stride;
    for (int64_t i = 0; i < channels; ++i) {
      const float x = combine<combination>(value(a[i], a_grid), value(b[i], b_grid));
      levels[i] = rounding.level(function.value(x, i));
    }
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

}  // namespace repq_fx::portable

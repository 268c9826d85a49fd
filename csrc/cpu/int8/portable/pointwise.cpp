// Single elements: between real numbers and levels, and from levels to levels.
#include <algorithm>
#include <cstdint>

#include "cpu/int8/portable/epilogue.h"
#include "cpu/int8/portable/kernels.h"

namespace repq_fx::portable {

void quantize(const QuantizeRow& row, const OutputGrid& grid) {
  for (int64_t x = 0; x < row.width; ++x) {
    uint8_t* pixel = row.levels + x * row.stride;
    for (int64_t channel = 0; channel < row.channels; ++channel) {
      const float value = row.values[x * row.column_stride + channel * row.channel_stride];
      pixel[channel] = to_level(value, grid);
    }
    std::fill(pixel + row.channels, pixel + row.stride, static_cast<uint8_t>(grid.zero_point));
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
  for (int64_t pixel = 0; pixel < row.pixels; ++pixel) {
    const uint8_t* from = row.input + pixel * row.input_stride;
    uint8_t* to = row.output + pixel * row.output_stride;
    for (int64_t i = 0; i < row.channels; ++i) to[i] = table[from[i]];
  }
}

void channel_lookup(const LevelRow& row, const LevelTable* tables) {
  for (int64_t pixel = 0; pixel < row.pixels; ++pixel) {
    const uint8_t* from = row.input + pixel * row.input_stride;
    uint8_t* to = row.output + pixel * row.output_stride;
    for (int64_t i = 0; i < row.channels; ++i) to[i] = tables[i][from[i]];
  }
}

namespace {

float combine(float a, float b, Combination combination) {
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

float value_of(uint8_t level, const InputGrid& grid) {
  return static_cast<float>(level - grid.zero_point) * grid.scale;
}

}  // namespace

void combine(const PixelPair& pair, const CombineSettings& settings) {
  for (int64_t pixel = 0; pixel < pair.pixels; ++pixel) {
    for (int64_t channel = 0; channel < pair.channels; ++channel) {
      const float a = value_of(pair.a[pixel * pair.a_stride + channel], settings.a);
      const float b = value_of(pair.b[pixel * pair.b_stride + channel], settings.b);
      const float x = combine(a, b, settings.combination);
      pair.levels[pixel * pair.stride + channel] =
          to_level(value_of(x, channel, settings.function), settings.output);
    }
  }
}

}  // namespace repq_fx::portable

// The entries of this set's table.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/int8/kernels.h"

namespace repq_fx::avx512_vnni {

constexpr int64_t read_slack = 64;  // Bytes: a vector.

namespace convolution {
std::unique_ptr<LayerKernel> make(const LayerWeights& weights, Layer layer);
}

namespace depthwise {
std::unique_ptr<LayerKernel> make(const LayerWeights& weights, Layer layer);
}

void quantize(const QuantizeRow& row, const OutputGrid& grid);
void dequantize(const DequantizeRow& row, const InputGrid& grid);
void lookup(const LevelRow& row, const LevelTable& table);
void combine(const PixelPair& pair, const CombineSettings& settings);
void maximum(const PoolWindow& window, int64_t channels, uint8_t* levels);
void mean(const PoolWindow& window, int64_t channels, const MeanSettings& settings,
          uint8_t* levels);

}  // namespace repq_fx::avx512_vnni

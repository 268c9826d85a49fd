// The entries of the portable table: plain loops, which compilers vectorize.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "cpu/int8/kernels.h"

namespace repq_fx::portable {

std::unique_ptr<LayerKernel> make_convolution(const LayerWeights& weights, Layer layer);
std::unique_ptr<LayerKernel> make_depthwise(const LayerWeights& weights, Layer layer);

void quantize(const QuantizeRow& row, const OutputGrid& grid);
void dequantize(const DequantizeRow& row, const InputGrid& grid);
void lookup(const LevelRow& row, const LevelTable& table);
void channel_lookup(const LevelRow& row, const LevelTable* tables);
void combine(const PixelPair& pair, const CombineSettings& settings);
void maximum(const PoolWindow& window, int64_t channels, uint8_t* levels);
void mean(const PoolWindow& window, int64_t channels, const MeanSettings& settings,
          uint8_t* levels);

void copy_pixels(const InputImage& input, const OutputImage& output, int64_t first, int64_t last);
void upsample_nearest(const InputImage& input, const OutputImage& output,
                      const std::array<float, 2>& steps, int64_t first, int64_t last);
void pixel_shuffle(const InputImage& input, const OutputImage& output, int64_t factor,
                   int64_t first, int64_t last);

}  // namespace repq_fx::portable

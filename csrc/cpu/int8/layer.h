// Convolutions and linear layers, as the kernels of an instruction set get them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cpu/int8/activations.h"
#include "cpu/int8/grids.h"
#include "cpu/int8/image.h"

namespace repq_fx {

struct ConvolutionShape {
  int64_t in_channels, out_channels, groups;
  std::array<int64_t, 2> kernel, stride, padding, dilation;  // Height, width.

  int64_t taps() const { return kernel[0] * kernel[1]; }
  int64_t group_inputs() const { return in_channels / groups; }
  int64_t group_outputs() const { return out_channels / groups; }
  // One filter for each channel.
  bool is_depthwise() const {
    return groups > 1 && groups == in_channels && groups == out_channels;
  }
};

// With coarse weights, their sums have a scale of their own.
struct LayerWeights {
  const int8_t* fine;    // [out_channels][in_channels / groups][height][width]
  const int8_t* coarse;  // Null, or the same at the kernel's centre alone.
};

// All of a layer but its weights. Of inputs minus their zero point,
// x = sum(fine * input) * scale + sum(coarse * input) * coarse_scale + bias + addend
// goes through the function, and becomes a level of the output or stays float32.
struct Layer {
  ConvolutionShape shape;
  std::vector<float> scale, bias;   // [out_channels]: of the input times that of the weight.
  std::vector<float> coarse_scale;  // The same; or empty.
  int32_t input_zero_point;
  InputGrid addend;  // Of the image that is added, if one is.
  OutputFunction function;
  OutputGrid output;
};

// What a layer writes, and the image that it adds. Pixels are in the order of `Image`.
struct LayerOutput {
  const uint8_t* addend;  // The first channel of the first pixel; or null.
  int64_t addend_stride;
  uint8_t* levels;  // The same of the result; null for a result in float32.
  float* values;    // The same for float32; or null.
  int64_t stride;   // Of `levels` or `values`.
  int64_t height, width;
};

// A layer whose weights are packed. Immutable, so that many threads may run it.
class LayerKernel {
 public:
  LayerKernel() = default;
  LayerKernel(const LayerKernel&) = delete;
  LayerKernel& operator=(const LayerKernel&) = delete;
  virtual ~LayerKernel() = default;

  // In how many parts `run` may be divided, whichever way.
  virtual int64_t tasks(const InputImage& input, const LayerOutput& output) const = 0;
  virtual void run(const InputImage& input, const LayerOutput& output, int64_t first_task,
                   int64_t last_task) const = 0;
};

}  // namespace repq_fx

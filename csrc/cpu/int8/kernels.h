// What an instruction set does for the steps of a program.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "cpu/int8/combine.h"
#include "cpu/int8/float_image.h"
#include "cpu/int8/grids.h"
#include "cpu/int8/image.h"
#include "cpu/int8/layer.h"
#include "cpu/int8/pooling.h"

namespace repq_fx {

using LevelTable = std::array<uint8_t, 256>;

// Neighbouring pixels before and after.
struct LevelRow {
  const uint8_t* input;
  uint8_t* output;
  int64_t input_stride, output_stride;
  int64_t pixels, channels;
};

// One table for each instruction set. Sets give the levels of the portable one but for rare ties of
// the float32 rounding. An entry that is null is that of the portable set; see `select.cpp`.
struct Kernels {
  const char* name;
  bool (*runs_here)();
  // In memory within a program, pixels begin at multiples of so many channels.
  int64_t channel_multiple;
  // So many bytes behind the last channel of an image can be read, whatever they hold.
  int64_t read_slack;

  // Weights are packed as the set's own loops read them; they need not stay.
  using MakeLayer = std::unique_ptr<LayerKernel> (*)(const LayerWeights&, Layer);
  MakeLayer convolution;  // Of any groups.
  MakeLayer depthwise;    // Of a shape that `is_depthwise`.

  void (*quantize)(const QuantizeRow&, const OutputGrid&);  // Zeros fill up to the next pixel.
  void (*dequantize)(const DequantizeRow&, const InputGrid&);
  void (*lookup)(const LevelRow&, const LevelTable&);
  void (*channel_lookup)(const LevelRow&, const LevelTable* tables);  // One for each channel.
  void (*combine)(const PixelPair&, const CombineSettings&);
  void (*maximum)(const PoolWindow&, int64_t channels, uint8_t* levels);
  void (*mean)(const PoolWindow&, int64_t channels, const MeanSettings&, uint8_t* levels);

  // The pixels from `first` to `last`, counted over the whole batch, to an image of the same size.
  void (*copy_pixels)(const InputImage&, const OutputImage&, int64_t first, int64_t last);
  // The output rows from `first` to `last`, counted over the whole batch. Output position i takes
  // input position floor(i * step), with the steps (vertical, horizontal) of torch's "nearest":
  // input size / output size, or 1 / scale factor where one was given; in float32, as torch
  // reckons.
  void (*upsample_nearest)(const InputImage&, const OutputImage&, const std::array<float, 2>& steps,
                           int64_t first, int64_t last);
  // Torch's `pixel_shuffle`, of the input rows from `first` to `last`.
  void (*pixel_shuffle)(const InputImage&, const OutputImage&, int64_t factor, int64_t first,
                        int64_t last);
};

// The best set that runs here, or that of REPQ_FX_ISA. Refuses a name that is unknown or does not
// run here.
const Kernels& selected_kernels();

// The set of this name, under the same conditions.
const Kernels& kernels_named(std::string_view name);

namespace portable {
extern const Kernels kernels;
}

namespace avx512_vnni {
extern const Kernels* const kernels;  // Null where this compiler cannot make them.
}

}  // namespace repq_fx

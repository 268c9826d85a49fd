// Steps on single elements.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"

namespace repq_fx {

std::unique_ptr<Step> quantize_step(const Kernels& kernels, int64_t input,
                                    const GridArgument& grid);
std::unique_ptr<Step> dequantize_step(const Kernels& kernels, int64_t input,
                                      const GridArgument& grid);
std::unique_ptr<Step> lookup_step(const Kernels& kernels, int64_t input, const at::Tensor& table);
// A table of levels for each channel.
std::unique_ptr<Step> channel_lookup_step(const Kernels& kernels, int64_t input,
                                          const at::Tensor& tables);

struct CombineArguments {
  const std::string& operation;
  const GridArgument& first_grid;
  const GridArgument& second_grid;
  const FunctionArgument& function;
  const GridArgument& output_grid;
  int64_t channel_axis;  // Counted from the last, negative.
};

// Arithmetic of two tensors of one shape, or of an image and one pixel for each image; others are
// repeated up to one shape before.
std::unique_ptr<Step> combine_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                   const CombineArguments& arguments);

}  // namespace repq_fx

// Steps with weights: convolutions and linear layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"

namespace repq_fx {

struct LayerArguments {
  const at::Tensor& weight;  // int8 [out, in / groups, ...]
  const at::Tensor& weight_scale;
  const std::optional<at::Tensor>& bias;
  const std::optional<at::Tensor>& coarse;
  const std::optional<at::Tensor>& coarse_scale;
  const GridArgument& input_grid;
  const std::optional<GridArgument>& addend_grid;
  const FunctionArgument& function;
  const std::optional<GridArgument>& output_grid;
};

// Rows and columns.
struct WindowArguments {
  const std::vector<int64_t>& stride;
  const std::vector<int64_t>& padding;
  const std::vector<int64_t>& dilation;
};

std::unique_ptr<Step> convolution_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                       const WindowArguments& window, int64_t groups,
                                       const LayerArguments& layer);
std::unique_ptr<Step> linear_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                  const LayerArguments& layer);

}  // namespace repq_fx

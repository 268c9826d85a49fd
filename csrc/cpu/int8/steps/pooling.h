// Steps that reduce windows of pixels to one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"

namespace repq_fx {

// Rows and columns.
struct MaxPoolArguments {
  const std::vector<int64_t>& kernel;
  const std::vector<int64_t>& stride;
  const std::vector<int64_t>& padding;
  const std::vector<int64_t>& dilation;
};

std::unique_ptr<Step> max_pool_step(const Kernels& kernels, int64_t input,
                                    const MaxPoolArguments& arguments);

// A negative number of the kernel or the stride stands for the size of that axis of the input,
// counted from the end; no kernel stands for all of the image.
struct AveragePoolArguments {
  const std::optional<std::vector<int64_t>>& kernel;
  const std::vector<int64_t>& stride;
  const std::vector<int64_t>& padding;
  bool counts_padding;
  const GridArgument& input_grid;
  const GridArgument& output_grid;
};

std::unique_ptr<Step> average_pool_step(const Kernels& kernels, int64_t input,
                                        const AveragePoolArguments& arguments);

}  // namespace repq_fx

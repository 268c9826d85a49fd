// Steps that only move, select or repeat levels.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/step.h"

namespace repq_fx {

std::unique_ptr<Step> concatenate_step(const Kernels& kernels, std::vector<int64_t> inputs);
std::unique_ptr<Step> channel_slice_step(const Kernels& kernels, int64_t input, int64_t start,
                                         int64_t stop);
// By the rule of `torch.chunk`.
std::unique_ptr<Step> channel_chunk_step(const Kernels& kernels, int64_t input, int64_t chunks,
                                         int64_t index);
// By factors, or to sizes.
std::unique_ptr<Step> upsample_step(const Kernels& kernels, int64_t input,
                                    const std::optional<std::vector<int64_t>>& factor,
                                    const std::optional<std::vector<int64_t>>& size);
std::unique_ptr<Step> pixel_shuffle_step(const Kernels& kernels, int64_t input, int64_t factor);
std::unique_ptr<Step> flatten_step(int64_t input);
// `tensor[start:stop:step]` along any axis, by the rule of Python.
std::unique_ptr<Step> slice_step(int64_t input, int64_t axis, int64_t start, int64_t stop,
                                 int64_t step);
// `tensor[index]` along any axis, which is gone in the result.
std::unique_ptr<Step> select_step(int64_t input, int64_t axis, int64_t index);
// Surrounds images by pixels of one level: `padding` is left, right, top, bottom, as in torch.
std::unique_ptr<Step> pad_step(int64_t input, const std::vector<int64_t>& padding, int64_t level);

}  // namespace repq_fx

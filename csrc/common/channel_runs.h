#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace repq_fx {

// Values of a dense tensor that share a channel lie in runs; run `r` has channel `r % channels`.
struct ChannelRuns {
  int64_t run;
  int64_t channels;
};

inline ChannelRuns channel_runs(const at::Tensor& dense, std::optional<int64_t> axis) {
  // The stride of a dimension of size one says nothing about the memory.
  if (!axis || dense.size(*axis) == 1) return {dense.numel(), 1};
  return {dense.stride(*axis), dense.size(*axis)};
}

}  // namespace repq_fx

#pragma once

#include <ATen/ATen.h>

#include "common/grid.h"

namespace repq_fx {

// The grid of each channel, on the device: reading a value here would wait for all queued work.
struct ChannelGrids {
  at::Tensor inverse_scale, scale, zero;

  ChannelGrids(const at::Tensor& scales, const at::Tensor& zero_points)
      : inverse_scale(scales.reciprocal().contiguous()),
        scale(scales.contiguous()),
        zero(zero_points.to(at::kFloat).round().contiguous()) {}

  Grids pointers() const {
    return {inverse_scale.const_data_ptr<float>(), scale.const_data_ptr<float>(),
            zero.const_data_ptr<float>()};
  }
};

}  // namespace repq_fx

#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/blocks.h"
#include "common/grid.h"

namespace repq_fx {

// The grid of each channel; of each lane where a row holds all channels.
class ChannelGrids {
 public:
  ChannelGrids(const at::Tensor& scale, const at::Tensor& zero_point, const Blocks& blocks)
      : size_(blocks.width > 1 ? blocks.lanes : blocks.channels), values_(3 * size_) {
    const at::Tensor scales = scale.contiguous(), zeros = zero_point.to(at::kFloat).contiguous();
    for (int64_t i = 0; i < size_; ++i) {
      const int64_t channel = i % blocks.channels;
      values_[i] = 1.0f / scales.const_data_ptr<float>()[channel];
      values_[size_ + i] = scales.const_data_ptr<float>()[channel];
      values_[2 * size_ + i] = std::nearbyintf(zeros.const_data_ptr<float>()[channel]);
    }
  }

  Grids from(int64_t index) const {
    return Grids{values_.data(), values_.data() + size_, values_.data() + 2 * size_}.from(index);
  }

 private:
  int64_t size_;
  std::vector<float> values_;
};

}  // namespace repq_fx

#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace repq_fx {

// One number for all channels, or one for each.
class ChannelNumbers {
 public:
  explicit ChannelNumbers(std::vector<float> numbers)
      : numbers_(std::move(numbers)), step_(numbers_.size() > 1 ? 1 : 0) {}

  float operator[](int64_t channel) const { return numbers_[channel * step_]; }
  const float* from(int64_t channel) const { return numbers_.data() + channel * step_; }
  bool differ() const { return step_ != 0; }

  template <typename Test>
  bool all(const Test& test) const {
    return std::all_of(numbers_.begin(), numbers_.end(), test);
  }
  // What `change` makes of each.
  template <typename Change>
  ChannelNumbers map(const Change& change) const {
    std::vector<float> changed(numbers_);
    for (float& number : changed) number = change(number);
    return ChannelNumbers(std::move(changed));
  }

 private:
  std::vector<float> numbers_;
  int64_t step_;
};

}  // namespace repq_fx

// The values between the steps of a program.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "cpu/int8/image.h"

namespace repq_fx {

// Of one value, and of the memory of all. What a file asks for beyond it is refused before any
// product of sizes could leave int64.
constexpr int64_t most_bytes = int64_t{1} << 40;

// Levels are bytes, real numbers float32. In memory the channels of a pixel are adjacent, and the
// pixels lie in the order of the other axes. Which axis holds the channels is a matter of speed or
// of what a step can read, never of what the numbers mean: every choice stands for the same tensor.
struct ValueType {
  std::vector<int64_t> sizes;  // In the order of torch.
  bool is_real;
  int64_t channel_axis;

  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
  // [N, C, H, W], or [C, H, W] without a batch.
  bool is_image() const { return (rank() == 3 || rank() == 4) && channel_axis == rank() - 3; }
  int64_t channels() const { return sizes[channel_axis]; }
  int64_t elements() const {
    return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
  }
  int64_t pixels() const { return channels() == 0 ? 0 : elements() / channels(); }
  // What is no image has one pixel for each row.
  int64_t batch() const {
    if (!is_image()) return pixels();
    return rank() == 4 ? sizes[0] : 1;
  }
  int64_t height() const { return is_image() ? sizes[rank() - 2] : 1; }
  int64_t width() const { return is_image() ? sizes[rank() - 1] : 1; }
  int64_t element_size() const { return is_real ? sizeof(float) : 1; }

  ValueType with_channels(int64_t count) const {
    ValueType changed = *this;
    changed.sizes[channel_axis] = count;
    return changed;
  }

  // Of an image.
  ValueType with_pixels(int64_t height, int64_t width) const {
    ValueType changed = *this;
    changed.sizes[rank() - 2] = height;
    changed.sizes[rank() - 1] = width;
    return changed;
  }

  ValueType with_channel_axis(int64_t axis) const { return {sizes, is_real, axis}; }

  // Of a tensor whose pixels are `stride` elements apart.
  std::vector<int64_t> strides(int64_t stride) const {
    std::vector<int64_t> strides(sizes.size(), 1);
    for (int64_t axis = rank() - 1; axis >= 0; --axis) {
      if (axis == channel_axis) continue;
      strides[axis] = stride;
      stride *= sizes[axis];
    }
    return strides;
  }

  bool operator==(const ValueType&) const = default;
};

std::string shape_of(const ValueType& type);

// The sizes up to which torch repeats both.
std::vector<int64_t> joint_sizes(const ValueType& a, const ValueType& b);

// A tensor of its own for a value, with so many elements behind it that may be read.
at::Tensor new_tensor(const ValueType& type, int64_t slack);

// A value in memory, like `Image`.
struct Operand {
  ValueType type;
  void* data;
  int64_t stride;  // Elements from pixel to pixel.
  // Of a real input of the program, whose strides are its own.
  const at::Tensor* tensor = nullptr;

  uint8_t* levels() const { return static_cast<uint8_t*>(data); }
  float* reals() const { return static_cast<float*>(data); }

  // Levels as a tensor of torch, on the same memory.
  at::Tensor view() const;

  InputImage input() const {
    return {levels(), type.batch(), type.height(), type.width(), type.channels(), stride};
  }
  OutputImage output() const {
    return {levels(), type.batch(), type.height(), type.width(), type.channels(), stride};
  }
};

}  // namespace repq_fx

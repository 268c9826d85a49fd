// The values between the steps of a program.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "cpu/int8_image.h"

namespace repq_fx {

// Of one value, and of the memory of all. What a file asks for beyond it is refused before any
// product of sizes could leave int64.
constexpr int64_t most_bytes = int64_t{1} << 40;

// Levels are bytes, real numbers float32.
struct ValueType {
  std::vector<int64_t> sizes;  // In the order of torch.
  bool is_real = false;

  bool is_image() const { return sizes.size() == 4; }
  int64_t channels() const { return is_image() ? sizes[1] : sizes.back(); }
  int64_t elements() const {
    return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
  }
  int64_t pixels() const { return channels() == 0 ? 0 : elements() / channels(); }
  // What is no image has one pixel for each row.
  int64_t batch() const { return is_image() ? sizes[0] : pixels(); }
  int64_t height() const { return is_image() ? sizes[2] : 1; }
  int64_t width() const { return is_image() ? sizes[3] : 1; }
  int64_t element_size() const { return is_real ? sizeof(float) : 1; }

  ValueType with_channels(int64_t count) const {
    ValueType changed = *this;
    (is_image() ? changed.sizes[1] : changed.sizes.back()) = count;
    return changed;
  }

  ValueType with_pixels(int64_t height, int64_t width) const {
    return {{sizes[0], sizes[1], height, width}, is_real};
  }
};

// A value in memory: channels last, like `Image`.
struct Operand {
  ValueType type;
  void* data;
  int64_t stride;  // Elements from pixel to pixel.
  // Of a real input of the program, whose strides are its own.
  const at::Tensor* tensor = nullptr;

  uint8_t* levels() const { return static_cast<uint8_t*>(data); }
  float* reals() const { return static_cast<float*>(data); }

  InputImage input() const {
    return {levels(), type.batch(), type.height(), type.width(), type.channels(), stride};
  }
  OutputImage output() const {
    return {levels(), type.batch(), type.height(), type.width(), type.channels(), stride};
  }
};

}  // namespace repq_fx

// Steps on single elements.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cpu/int8/kernels/combine.h"
#include "cpu/int8/kernels/float_image.h"
#include "cpu/int8/kernels/lookup.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"

namespace repq_fx {

// Pixels that lie one after the other, their channels adjacent.
template <typename T>
FloatImage<T> float_pixels(T* data, const ValueType& type, int64_t stride) {
  return {data, type.channels(), 1, std::max<int64_t>(1, type.pixels()), 0, 1, 0, stride};
}

// A tensor of any strides, with elements, and its channels on this axis. `tensor` becomes a copy if
// its other axes are no image even where neighbours are joined.
inline FloatImage<const float> float_image(at::Tensor& tensor, int64_t channel_axis) {
  struct Axis {
    int64_t size, stride;
  };
  std::vector<Axis> axes;
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) {
    const Axis next{tensor.size(axis), tensor.stride(axis)};
    if (axis == channel_axis || next.size == 1) continue;
    if (!axes.empty() && axes.back().stride == next.size * next.stride) {
      axes.back() = {axes.back().size * next.size, next.stride};
    } else {
      axes.push_back(next);
    }
  }
  if (axes.size() > 3) {
    tensor = tensor.movedim(channel_axis, -1).contiguous().movedim(-1, channel_axis);
    return float_image(tensor, channel_axis);
  }
  axes.insert(axes.begin(), 3 - axes.size(), {1, 0});
  return {tensor.const_data_ptr<float>(),
          tensor.size(channel_axis),
          axes[1].size,
          axes[2].size,
          axes[0].stride,
          tensor.stride(channel_axis),
          axes[1].stride,
          axes[2].stride};
}

class QuantizeStep : public Step {
 public:
  QuantizeStep(int64_t input, const GridArgument& grid)
      : Step({input}), epilogue_(epilogue_of(no_function, grid)) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    return {types[0].sizes, false, types[0].channel_axis};
  }

  bool takes_reals() const override { return true; }
  bool writes_between_pixels() const override { return true; }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const Operand& input = operands[0];
    const ValueType& type = input.type;
    if (type.elements() == 0) return;
    at::Tensor tensor = input.tensor == nullptr ? at::Tensor() : *input.tensor;
    const FloatImage<const float> values =
        input.tensor == nullptr ? float_pixels<const float>(input.reals(), type, input.stride)
                                : float_image(tensor, type.channel_axis);
    run_tasks(type.pixels(), type.elements() / 2, [&](int64_t first, int64_t last) {
      repq_fx::quantize(values, result.output(), epilogue_, first, last);
    });
  }

 private:
  Epilogue epilogue_;
};

class DequantizeStep : public Step {
 public:
  DequantizeStep(int64_t input, const GridArgument& grid)
      : Step({input}),
        grid_{static_cast<float>(std::get<0>(checked(grid))),
              static_cast<int32_t>(std::get<1>(grid))} {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    return {types[0].sizes, true, types[0].channel_axis};
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const ValueType& type = result.type;
    const FloatImage<float> values = float_pixels(result.reals(), type, result.stride);
    run_tasks(type.pixels(), type.elements() / 2, [&](int64_t first, int64_t last) {
      repq_fx::dequantize(operands[0].input(), values, grid_, first, last);
    });
  }

 private:
  TensorGrid grid_;
};

class LookupStep : public Step {
 public:
  LookupStep(int64_t input, const at::Tensor& table) : Step({input}) {
    TORCH_CHECK_VALUE(table.numel() == 256 && table.scalar_type() == at::kByte,
                      "lookup: expected a table of 256 levels, got ", table.numel());
    std::array<uint8_t, 256> levels;
    const at::Tensor entries = table.contiguous();
    std::copy_n(entries.const_data_ptr<uint8_t>(), levels.size(), levels.begin());
    kernel_ = std::make_unique<Int8Lookup>(levels);
  }

  ValueType infer(const std::vector<ValueType>& types) const override { return types[0]; }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    run_tasks(result.type.pixels(), result.type.elements(), [&](int64_t first, int64_t last) {
      kernel_->run(operands[0].input(), result.output(), first, last);
    });
  }

 private:
  std::unique_ptr<Int8Lookup> kernel_;  // Aligned more strictly than steps.
};

// A table of levels for each channel.
class ChannelLookupStep : public SecondAxisStep {
 public:
  ChannelLookupStep(int64_t input, const at::Tensor& tables) : SecondAxisStep({input}) {
    TORCH_CHECK_VALUE(tables.dim() == 2 && tables.size(1) == levels &&
                          tables.scalar_type() == at::kByte && tables.device().is_cpu(),
                      "channel_lookup: expected tables of 256 levels, got shape ", tables.sizes());
    channels_ = tables.size(0);
    const at::Tensor entries = tables.contiguous();
    const uint8_t* first = entries.const_data_ptr<uint8_t>();
    tables_.assign(first, first + entries.numel());
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    TORCH_CHECK_VALUE(types[0].channels() == channels_, "channel_lookup: expected ", channels_,
                      " channels, got shape ", shape_of(types[0]));
    return types[0];
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const OutputImage out = result.output();
    run_tasks(in.pixels(), result.type.elements() * 2, [&](int64_t first, int64_t last) {
      for (int64_t pixel = first; pixel < last; ++pixel) {
        const uint8_t* from = in.data + pixel * in.stride;
        uint8_t* to = out.data + pixel * out.stride;
        for (int64_t c = 0; c < channels_; ++c) to[c] = tables_[c * levels + from[c]];
      }
    });
  }

 private:
  static constexpr int64_t levels = 256;

  int64_t channels_;
  std::vector<uint8_t> tables_;
};

// Arithmetic of two tensors of one shape, or of an image and one pixel for each image; others are
// repeated up to one shape before.
class CombineStep : public Step {
 public:
  CombineStep(std::vector<int64_t> inputs, const std::string& operation,
              const GridArgument& first_grid, const GridArgument& second_grid,
              const FunctionArgument& function, const GridArgument& output_grid,
              int64_t channel_axis)
      : Step(std::move(inputs)),
        settings_{.combination = combination_of(operation),
                  .a_scale = static_cast<float>(std::get<0>(checked(first_grid))),
                  .b_scale = static_cast<float>(std::get<0>(checked(second_grid))),
                  .a_zero = static_cast<int32_t>(std::get<1>(first_grid)),
                  .b_zero = static_cast<int32_t>(std::get<1>(second_grid)),
                  .epilogue = epilogue_of(function, output_grid, channels_of(function))},
        channels_(channels_of(function)),
        channel_axis_(channel_axis) {
    TORCH_CHECK_VALUE(this->inputs.size() == 2, "combine: expected two inputs, got ",
                      this->inputs.size());
    TORCH_CHECK_VALUE(channel_axis < 0, "combine: expected an axis from the last, got ",
                      channel_axis);
  }

  std::vector<ValueType> forms(std::vector<ValueType> types) const override {
    const std::vector<int64_t> sizes = at::infer_size(types[0].sizes, types[1].sizes);
    const int64_t rank = static_cast<int64_t>(sizes.size());
    if (settings_.epilogue.differs_by_channel()) {
      const int64_t axis = rank + channel_axis_;
      TORCH_CHECK_NOT_IMPLEMENTED(axis >= 0 && sizes[axis] == channels_, "combine: expected ",
                                  channels_, " channels on axis ", channel_axis_, ", got shape ",
                                  shape_of({sizes, false, 0}));
      return {{sizes, false, axis}, {sizes, false, axis}};
    }
    const bool turned = settings_.combination != Combination::difference;
    if (broadcasts(types[0], types[1]) || (turned && broadcasts(types[1], types[0]))) return types;
    int64_t axis = rank - 1;
    for (const ValueType& type : types) {
      if (type.sizes == sizes) axis = type.channel_axis;
    }
    return {{sizes, false, axis}, {sizes, false, axis}};
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    return broadcasts(types[0], types[1]) ? types[0] : types[1];
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    CombineSettings settings = settings_;
    const Operand* a = operands.data();
    const Operand* b = a + 1;
    if (!broadcasts(a->type, b->type)) {
      std::swap(a, b);
      std::swap(settings.a_scale, settings.b_scale);
      std::swap(settings.a_zero, settings.b_zero);
    }
    const int64_t work = result.type.elements() * 2;
    run_tasks(result.type.pixels(), work, [&](int64_t first, int64_t last) {
      combine(a->input(), b->input(), result.output(), settings, first, last);
    });
  }

 private:
  static Combination combination_of(const std::string& name) {
    if (name == "sum") return Combination::sum;
    if (name == "difference") return Combination::difference;
    TORCH_CHECK_VALUE(name == "product", "combine: expected sum, difference or product, got ",
                      name);
    return Combination::product;
  }

  // How many channels the function tells apart.
  static int64_t channels_of(const FunctionArgument& function) {
    const size_t count = std::max(std::get<2>(function).size(), std::get<3>(function).size());
    return std::max<int64_t>(1, static_cast<int64_t>(count));
  }

  // Whether b has the shape of a, or one pixel for each image of a.
  static bool broadcasts(const ValueType& a, const ValueType& b) {
    return b == a || (a.is_image() && b == a.with_pixels(1, 1));
  }

  CombineSettings settings_;
  int64_t channels_, channel_axis_;
};

}  // namespace repq_fx

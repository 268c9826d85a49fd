// Steps that reduce windows of pixels to one.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/int8_pooling.h"
#include "cpu/int8_settings.h"
#include "cpu/int8_step.h"

namespace repq_fx {

inline ValueType pooled(const char* step, const PoolShape& shape, const ValueType& type) {
  require_image(step, type);
  std::array<int64_t, 2> sizes;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t extent = shape.dilation[axis] * (shape.kernel[axis] - 1) + 1;
    const int64_t room = type.sizes[2 + axis] + 2 * shape.padding[axis] - extent;
    TORCH_CHECK_VALUE(room >= 0, step, ": expected an image as large as the window, got ",
                      shape_of(type));
    sizes[axis] = room / shape.stride[axis] + 1;
  }
  return type.with_pixels(sizes[0], sizes[1]);
}

// Operations for a result whose windows have so many pixels.
inline int64_t pooling_work(const ValueType& result, const PoolShape& shape) {
  return result.elements() * shape.kernel[0] * shape.kernel[1] / 4;
}

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(int64_t input, const std::vector<int64_t>& kernel, const std::vector<int64_t>& stride,
              const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation)
      : Step({input}),
        shape_{pair_of(kernel), pair_of(stride), pair_of(padding, 0), pair_of(dilation)} {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    return pooled("max_pool", shape_, types[0]);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    const auto run_pixels = [&](int64_t first, int64_t last) {
      max_pool(shape_, input, output, first, last);
    };
    run_tasks(output.pixels(), pooling_work(result.type, shape_), run_pixels);
  }

 private:
  PoolShape shape_;
};

class AveragePoolStep : public Step {
 public:
  AveragePoolStep(int64_t input, const std::optional<std::vector<int64_t>>& kernel,
                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                  bool count_padding, const GridArgument& input_grid,
                  const GridArgument& output_grid)
      : Step({input}),
        is_global_(!kernel),
        shape_{kernel ? pair_of(*kernel) : std::array<int64_t, 2>{1, 1},
               pair_of(stride),
               pair_of(padding, 0),
               {1, 1}},
        settings_{.scale = static_cast<float>(std::get<0>(checked(input_grid))),
                  .input_zero_point = static_cast<int32_t>(std::get<1>(input_grid)),
                  .count_padding = count_padding,
                  .epilogue = epilogue_of("none", 0, output_grid)} {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    return pooled("average_pool", shape_for(types[0]), types[0]);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    const PoolShape shape = shape_for(operands[0].type);
    const auto run_pixels = [&](int64_t first, int64_t last) {
      average_pool(shape, settings_, input, output, first, last);
    };
    run_tasks(output.pixels(), pooling_work(result.type, shape), run_pixels);
  }

 private:
  PoolShape shape_for(const ValueType& type) const {
    PoolShape shape = shape_;
    if (is_global_ && type.is_image()) shape.kernel = {type.height(), type.width()};
    return shape;
  }

  bool is_global_;
  PoolShape shape_;
  AverageSettings settings_;
};

}  // namespace repq_fx

#include "cpu/int8/steps/pooling.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/pooling.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {
namespace {

int64_t extent_of(const PoolShape& shape, int axis) {
  return shape.dilation[axis] * (shape.kernel[axis] - 1) + 1;
}

// Every window has pixels of the image under it.
PoolShape checked(const char* step, const PoolShape& shape) {
  for (int axis = 0; axis < 2; ++axis) {
    TORCH_CHECK_VALUE(shape.padding[axis] < extent_of(shape, axis), step,
                      ": expected padding smaller than the window's extent of ",
                      extent_of(shape, axis), ", got ", shape.padding[axis]);
  }
  return shape;
}

ValueType pooled(const char* step, const PoolShape& shape, const ValueType& type) {
  require_image(step, type);
  require_pixels(step, type);
  checked(step, shape);  // Whose window may be that of this image.
  std::array<int64_t, 2> sizes;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t room =
        type.sizes[type.rank() - 2 + axis] + 2 * shape.padding[axis] - extent_of(shape, axis);
    TORCH_CHECK_VALUE(room >= 0, step, ": expected an image as large as the window, got ",
                      shape_of(type));
    sizes[axis] = room / shape.stride[axis] + 1;
  }
  return type.with_pixels(sizes[0], sizes[1]);
}

// Operations for a result whose windows have so many pixels.
int64_t pooling_work(const ValueType& result, const PoolShape& shape) {
  // More operations than this are enough for all threads; the product stays in int64.
  constexpr int64_t enough = int64_t{1} << 20;
  return result.elements() * std::min(shape.kernel[0] * shape.kernel[1], enough) / 4;
}

class MaxPoolStep : public ImageStep {
 public:
  MaxPoolStep(const Kernels& kernels, int64_t input, const MaxPoolArguments& arguments)
      : ImageStep({input}),
        kernels_(kernels),
        shape_(checked("max_pool", {pair_of("max_pool", "kernel", arguments.kernel),
                                    pair_of("max_pool", "stride", arguments.stride),
                                    pair_of("max_pool", "padding", arguments.padding, 0),
                                    pair_of("max_pool", "dilation", arguments.dilation)})) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    return pooled("max_pool", shape_, types[0]);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    const auto run_pixels = [&](int64_t first, int64_t last) {
      const PoolWindows windows(shape_, input, output);
      windows.for_each(first, last, [&](const PoolWindow& window, uint8_t* levels) {
        kernels_.maximum(window, input.channels, levels);
      });
    };
    run_tasks(output.pixels(), pooling_work(result.type, shape_), run_pixels);
  }

 private:
  const Kernels& kernels_;
  PoolShape shape_;
};

class AveragePoolStep : public ImageStep {
 public:
  AveragePoolStep(const Kernels& kernels, int64_t input, const AveragePoolArguments& arguments)
      : ImageStep({input}),
        kernels_(kernels),
        is_global_(!arguments.kernel),
        shape_{
            arguments.kernel ? sizes_of("kernel", *arguments.kernel) : std::array<int64_t, 2>{1, 1},
            sizes_of("stride", arguments.stride),
            pair_of("average_pool", "padding", arguments.padding, 0),
            {1, 1}},
        settings_{input_grid_of(arguments.input_grid), arguments.counts_padding,
                  output_grid_of(arguments.output_grid)} {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const PoolShape shape = shape_for(types[0]);
    const ValueType result = pooled("average_pool", shape, types[0]);
    constexpr int64_t most_pixels = int64_t{1} << 23;  // The sum of more levels could leave int32.
    const int64_t pixels =
        std::min(shape.kernel[0], types[0].height()) * std::min(shape.kernel[1], types[0].width());
    TORCH_CHECK_NOT_IMPLEMENTED(pixels <= most_pixels, "average_pool: expected windows of up to ",
                                most_pixels, " pixels, got ", pixels);
    return result;
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    const PoolShape shape = shape_for(operands[0].type);
    const auto run_pixels = [&](int64_t first, int64_t last) {
      const PoolWindows windows(shape, input, output);
      windows.for_each(first, last, [&](const PoolWindow& window, uint8_t* levels) {
        kernels_.mean(window, input.channels, settings_, levels);
      });
    };
    run_tasks(output.pixels(), pooling_work(result.type, shape), run_pixels);
  }

 private:
  PoolShape shape_for(const ValueType& type) const {
    PoolShape shape = shape_;
    if (!type.is_image()) return shape;
    if (is_global_) shape.kernel = {type.height(), type.width()};
    for (std::array<int64_t, 2>* sizes : {&shape.kernel, &shape.stride}) {
      for (int64_t& size : *sizes) {
        if (size < 0) size = std::max<int64_t>(1, type.sizes[type.rank() + size]);
      }
    }
    return shape;
  }

  static std::array<int64_t, 2> sizes_of(const char* setting, const std::vector<int64_t>& sizes) {
    std::vector<int64_t> positive = sizes;
    for (int64_t& size : positive) {
      if (size == -1 || size == -2) size = 1;
    }
    pair_of("average_pool", setting, positive);
    return {sizes[0], sizes[1]};
  }

  const Kernels& kernels_;
  bool is_global_;
  PoolShape shape_;
  MeanSettings settings_;
};

}  // namespace

std::unique_ptr<Step> max_pool_step(const Kernels& kernels, int64_t input,
                                    const MaxPoolArguments& arguments) {
  return std::make_unique<MaxPoolStep>(kernels, input, arguments);
}

std::unique_ptr<Step> average_pool_step(const Kernels& kernels, int64_t input,
                                        const AveragePoolArguments& arguments) {
  return std::make_unique<AveragePoolStep>(kernels, input, arguments);
}

}  // namespace repq_fx

#include "cpu/int8/steps/pointwise.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/int8/combine.h"
#include "cpu/int8/float_image.h"
#include "cpu/int8/image.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {
namespace {

// Pixels that lie one after the other, their channels adjacent.
template <typename T>
FloatImage<T> float_pixels(T* data, const ValueType& type, int64_t stride) {
  return {data, type.channels(), 1, std::max<int64_t>(1, type.pixels()), 0, 1, 0, stride};
}

// A tensor of any strides, with elements, and its channels on this axis. `tensor` becomes a copy if
// its other axes are no image even where neighbours are joined.
FloatImage<const float> float_image(at::Tensor& tensor, int64_t channel_axis) {
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
  QuantizeStep(const Kernels& kernels, int64_t input, const GridArgument& grid)
      : Step({input}), kernels_(kernels), grid_(output_grid_of(grid)) {}

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
    const OutputImage output = result.output();
    run_tasks(type.pixels(), type.elements() / 2, [&](int64_t first, int64_t last) {
      while (first < last) {
        const QuantizeRow row = row_from(values, output, first, last);
        kernels_.quantize(row, grid_);
        first += row.width;
      }
    });
  }

 private:
  const Kernels& kernels_;
  OutputGrid grid_;
};

class DequantizeStep : public Step {
 public:
  DequantizeStep(const Kernels& kernels, int64_t input, const GridArgument& grid)
      : Step({input}), kernels_(kernels), grid_(input_grid_of(grid)) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    return {types[0].sizes, true, types[0].channel_axis};
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const ValueType& type = result.type;
    const FloatImage<float> values = float_pixels(result.reals(), type, result.stride);
    const InputImage input = operands[0].input();
    run_tasks(type.pixels(), type.elements() / 2, [&](int64_t first, int64_t last) {
      while (first < last) {
        const DequantizeRow row = row_from(values, input, first, last);
        kernels_.dequantize(row, grid_);
        first += row.width;
      }
    });
  }

 private:
  const Kernels& kernels_;
  InputGrid grid_;
};

// The pixels from `first` to `last`, counted over the whole batch.
LevelRow level_row(const InputImage& input, const OutputImage& output, int64_t first,
                   int64_t last) {
  return {input.data + first * input.stride,
          output.data + first * output.stride,
          input.stride,
          output.stride,
          last - first,
          input.channels};
}

class LookupStep : public Step {
 public:
  LookupStep(const Kernels& kernels, int64_t input, const at::Tensor& table)
      : Step({input}), kernels_(kernels) {
    TORCH_CHECK_VALUE(table.numel() == 256 && table.scalar_type() == at::kByte,
                      "lookup: expected a table of 256 levels, got ", table.numel());
    const at::Tensor entries = table.contiguous();
    std::copy_n(entries.const_data_ptr<uint8_t>(), table_.size(), table_.begin());
  }

  ValueType infer(const std::vector<ValueType>& types) const override { return types[0]; }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    run_tasks(input.pixels(), result.type.elements(), [&](int64_t first, int64_t last) {
      LevelRow row = level_row(input, output, first, last);
      // Pixels without gaps are one.
      if (input.stride == input.channels && output.stride == input.channels) {
        row.channels *= row.pixels;
        row.pixels = 1;
      }
      kernels_.lookup(row, table_);
    });
  }

 private:
  const Kernels& kernels_;
  LevelTable table_;
};

class ChannelLookupStep : public SecondAxisStep {
 public:
  ChannelLookupStep(const Kernels& kernels, int64_t input, const at::Tensor& tables)
      : SecondAxisStep({input}), kernels_(kernels) {
    TORCH_CHECK_VALUE(tables.dim() == 2 && tables.size(1) == std::ssize(LevelTable()) &&
                          tables.scalar_type() == at::kByte && tables.device().is_cpu(),
                      "channel_lookup: expected tables of 256 levels, got shape ", tables.sizes());
    const at::Tensor entries = tables.contiguous();
    tables_.resize(tables.size(0));
    std::memcpy(tables_.data(), entries.const_data_ptr<uint8_t>(), entries.numel());
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    TORCH_CHECK_VALUE(types[0].channels() == std::ssize(tables_), "channel_lookup: expected ",
                      tables_.size(), " channels, got shape ", shape_of(types[0]));
    return types[0];
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    run_tasks(input.pixels(), result.type.elements() * 2, [&](int64_t first, int64_t last) {
      kernels_.channel_lookup(level_row(input, output, first, last), tables_.data());
    });
  }

 private:
  const Kernels& kernels_;
  std::vector<LevelTable> tables_;
};

// The pixels from `first` to `last`, counted over the whole batch, up to where one call ends: where
// b has one pixel for each image, it meets all of the image's pixels.
PixelPair pair_from(const InputImage& a, const InputImage& b, const OutputImage& output,
                    int64_t first, int64_t last) {
  const int64_t area = a.height * a.width;
  const bool broadcast = b.pixels() != a.pixels();
  const int64_t end = broadcast ? std::min(last, (first / area + 1) * area) : last;
  return {.a = a.data + first * a.stride,
          .b = b.data + (broadcast ? first / area : first) * b.stride,
          .levels = output.data + first * output.stride,
          .a_stride = a.stride,
          .b_stride = broadcast ? 0 : b.stride,
          .stride = output.stride,
          .pixels = end - first,
          .channels = a.channels};
}

class CombineStep : public Step {
 public:
  CombineStep(const Kernels& kernels, std::vector<int64_t> inputs,
              const CombineArguments& arguments)
      : Step(std::move(inputs)),
        kernels_(kernels),
        settings_{combination_of(arguments.operation), input_grid_of(arguments.first_grid),
                  input_grid_of(arguments.second_grid),
                  function_of(arguments.function, channels_of(arguments.function)),
                  output_grid_of(arguments.output_grid)},
        channels_(channels_of(arguments.function)),
        channel_axis_(arguments.channel_axis) {
    TORCH_CHECK_VALUE(this->inputs.size() == 2, "combine: expected two inputs, got ",
                      this->inputs.size());
    TORCH_CHECK_VALUE(channel_axis_ < 0, "combine: expected an axis from the last, got ",
                      channel_axis_);
  }

  std::vector<ValueType> forms(std::vector<ValueType> types) const override {
    const std::vector<int64_t> sizes = joint_sizes(types[0], types[1]);
    const int64_t rank = static_cast<int64_t>(sizes.size());
    if (settings_.function.differs_by_channel()) {
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
      std::swap(settings.a, settings.b);
    }
    const InputImage a_image = a->input(), b_image = b->input();
    const OutputImage output = result.output();
    // Where channels are alike, pixels without gaps are one.
    const auto is_dense = [](const auto& image) { return image.stride == image.channels; };
    const bool joins = a_image.pixels() == b_image.pixels() && is_dense(a_image) &&
                       is_dense(b_image) && is_dense(output) &&
                       !settings.function.differs_by_channel();
    const int64_t work = result.type.elements() * 2;
    run_tasks(result.type.pixels(), work, [&](int64_t first, int64_t last) {
      while (first < last) {
        PixelPair pair = pair_from(a_image, b_image, output, first, last);
        first += pair.pixels;
        if (joins) {
          pair.channels *= pair.pixels;
          pair.pixels = 1;
        }
        kernels_.combine(pair, settings);
      }
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

  const Kernels& kernels_;
  CombineSettings settings_;
  int64_t channels_, channel_axis_;
};

}  // namespace

std::unique_ptr<Step> quantize_step(const Kernels& kernels, int64_t input,
                                    const GridArgument& grid) {
  return std::make_unique<QuantizeStep>(kernels, input, grid);
}

std::unique_ptr<Step> dequantize_step(const Kernels& kernels, int64_t input,
                                      const GridArgument& grid) {
  return std::make_unique<DequantizeStep>(kernels, input, grid);
}

std::unique_ptr<Step> lookup_step(const Kernels& kernels, int64_t input, const at::Tensor& table) {
  return std::make_unique<LookupStep>(kernels, input, table);
}

std::unique_ptr<Step> channel_lookup_step(const Kernels& kernels, int64_t input,
                                          const at::Tensor& tables) {
  return std::make_unique<ChannelLookupStep>(kernels, input, tables);
}

std::unique_ptr<Step> combine_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                   const CombineArguments& arguments) {
  return std::make_unique<CombineStep>(kernels, std::move(inputs), arguments);
}

}  // namespace repq_fx

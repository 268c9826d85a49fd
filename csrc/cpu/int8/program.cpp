// Programs of integer instructions: what Python builds, step by step, and runs in one call.
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/int8/buffer_pool.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/plan.h"
#include "cpu/int8/steps/layers.h"
#include "cpu/int8/steps/movement.h"
#include "cpu/int8/steps/pointwise.h"
#include "cpu/int8/steps/pooling.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {
namespace {

using Numbers = std::vector<int64_t>;
using OptionalTensor = std::optional<at::Tensor>;
using OptionalGrid = std::optional<GridArgument>;

class Int8Program : public torch::CustomClassHolder {
 public:
  // For an instruction set, or for the best one.
  Int8Program(int64_t inputs, const std::optional<std::string>& instruction_set)
      : kernels_(instruction_set ? kernels_named(*instruction_set) : selected_kernels()),
        input_count_(inputs) {}

  int64_t convolution(Numbers inputs, const at::Tensor& weight, const at::Tensor& weight_scale,
                      const OptionalTensor& bias, const OptionalTensor& coarse,
                      const OptionalTensor& coarse_scale, const Numbers& stride,
                      const Numbers& padding, const Numbers& dilation, int64_t groups,
                      const GridArgument& input_grid, const OptionalGrid& addend_grid,
                      const FunctionArgument& function, const OptionalGrid& output_grid) {
    return add(convolution_step(kernels_, std::move(inputs), {stride, padding, dilation}, groups,
                                {weight, weight_scale, bias, coarse, coarse_scale, input_grid,
                                 addend_grid, function, output_grid}));
  }

  int64_t linear(Numbers inputs, const at::Tensor& weight, const at::Tensor& weight_scale,
                 const OptionalTensor& bias, const GridArgument& input_grid,
                 const OptionalGrid& addend_grid, const FunctionArgument& function,
                 const OptionalGrid& output_grid) {
    const OptionalTensor none;
    return add(linear_step(
        kernels_, std::move(inputs),
        {weight, weight_scale, bias, none, none, input_grid, addend_grid, function, output_grid}));
  }

  int64_t quantize(int64_t input, const GridArgument& grid) {
    return add(quantize_step(kernels_, input, grid));
  }

  int64_t dequantize(int64_t input, const GridArgument& grid) {
    return add(dequantize_step(kernels_, input, grid));
  }

  int64_t lookup(int64_t input, const at::Tensor& table) {
    return add(lookup_step(kernels_, input, table));
  }

  int64_t combine(Numbers inputs, const std::string& operation, const GridArgument& first_grid,
                  const GridArgument& second_grid, const FunctionArgument& function,
                  const GridArgument& output_grid, int64_t channel_axis) {
    return add(
        combine_step(kernels_, std::move(inputs),
                     {operation, first_grid, second_grid, function, output_grid, channel_axis}));
  }

  int64_t max_pool(int64_t input, const Numbers& kernel, const Numbers& stride,
                   const Numbers& padding, const Numbers& dilation) {
    return add(max_pool_step(kernels_, input, {kernel, stride, padding, dilation}));
  }

  int64_t average_pool(int64_t input, const std::optional<Numbers>& kernel, const Numbers& stride,
                       const Numbers& padding, bool count_padding, const GridArgument& input_grid,
                       const GridArgument& output_grid) {
    return add(average_pool_step(
        kernels_, input, {kernel, stride, padding, count_padding, input_grid, output_grid}));
  }

  int64_t concatenate(Numbers inputs) { return add(concatenate_step(kernels_, std::move(inputs))); }

  int64_t channel_slice(int64_t input, int64_t start, int64_t stop) {
    return add(channel_slice_step(kernels_, input, start, stop));
  }

  int64_t channel_chunk(int64_t input, int64_t chunks, int64_t index) {
    return add(channel_chunk_step(kernels_, input, chunks, index));
  }

  int64_t upsample_nearest(int64_t input, const std::optional<Numbers>& factor,
                           const std::optional<Numbers>& size) {
    return add(upsample_step(kernels_, input, factor, size));
  }

  int64_t pixel_shuffle(int64_t input, int64_t factor) {
    return add(pixel_shuffle_step(kernels_, input, factor));
  }

  int64_t flatten(int64_t input) { return add(flatten_step(input)); }

  int64_t slice(int64_t input, int64_t axis, int64_t start, int64_t stop, int64_t step) {
    return add(slice_step(input, axis, start, stop, step));
  }

  int64_t select(int64_t input, int64_t axis, int64_t index) {
    return add(select_step(input, axis, index));
  }

  int64_t pad(int64_t input, const Numbers& padding, int64_t level) {
    return add(pad_step(input, padding, level));
  }

  int64_t channel_lookup(int64_t input, const at::Tensor& tables) {
    return add(channel_lookup_step(kernels_, input, tables));
  }

  void output(int64_t value) {
    TORCH_CHECK_VALUE(input_count_ <= value && value < next_value(),
                      "program: expected the result of a step as output, got value ", value);
    // Each output has memory of its own, which its step fills.
    TORCH_CHECK_VALUE(std::find(outputs_.begin(), outputs_.end(), value) == outputs_.end(),
                      "program: expected different outputs, got value ", value, " twice");
    outputs_.push_back(value);
  }

  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs) {
    return run_calls(inputs, [](const Call&) {});
  }

  // The outputs, and the milliseconds of each step, with those of what is rearranged for it.
  std::tuple<std::vector<at::Tensor>, std::vector<double>> profile(
      const std::vector<at::Tensor>& inputs) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    Clock::time_point start = Clock::now();
    const std::vector<at::Tensor> outputs = run_calls(inputs, [&](const Call& call) {
      // Steps are called in their order, after their arrangements.
      if (call.step != steps_[times.size()].get()) return;
      const Clock::time_point now = Clock::now();
      times.push_back(std::chrono::duration<double, std::milli>(now - start).count());
      start = now;
    });
    return {outputs, times};
  }

 private:
  static constexpr size_t most_plans = 16;

  int64_t next_value() const { return input_count_ + static_cast<int64_t>(steps_.size()); }

  int64_t add(std::unique_ptr<Step> step) {
    const int64_t value = next_value();
    TORCH_CHECK_VALUE(!step->inputs.empty(), "program: expected a step with inputs");
    for (const int64_t input : step->inputs) {
      TORCH_CHECK_VALUE(0 <= input && input < value, "program: expected values from 0 to ",
                        value - 1, ", got ", input);
    }
    steps_.push_back(std::move(step));
    return value;
  }

  // Calls `watch` after each call of the plan.
  template <typename Watch>
  std::vector<at::Tensor> run_calls(const std::vector<at::Tensor>& inputs, const Watch& watch) {
    check_inputs(inputs);
    const std::shared_ptr<const Plan> plan = plan_for(inputs);
    const BufferPool::Loan buffer(buffers_, plan->bytes);
    std::vector<at::Tensor> outputs;
    const std::vector<Operand> values = locate(*plan, inputs, buffer.data(), outputs);
    std::vector<Operand> operands;
    for (size_t i = 0; i < plan->calls.size(); ++i) {
      operands.clear();
      for (const int64_t input : plan->calls[i].inputs) operands.push_back(values[input]);
      plan->calls[i].step->run(operands, values[input_count_ + i]);
      watch(plan->calls[i]);
    }
    return outputs;
  }

  void check_inputs(const std::vector<at::Tensor>& inputs) const {
    TORCH_CHECK_VALUE(static_cast<int64_t>(inputs.size()) == input_count_, "program: expected ",
                      input_count_, " inputs, got ", inputs.size());
    for (const at::Tensor& input : inputs) {
      const at::ScalarType type = input.scalar_type();
      TORCH_CHECK_TYPE(type == at::kFloat || type == at::kByte,
                       "program: expected float32 or uint8 input, got ",
                       c10::getDtypeNames(type).first);
      TORCH_CHECK_VALUE(input.device().is_cpu(), "program: expected input on cpu, got ",
                        input.device());
      TORCH_CHECK_NOT_IMPLEMENTED(input.dim() > 0, "program: expected input with dimensions");
    }
  }

  std::shared_ptr<const Plan> plan_for(const std::vector<at::Tensor>& inputs) {
    Numbers key;
    std::vector<ValueType> types;
    for (const at::Tensor& input : inputs) {
      // The plan finds where the channels should be.
      types.push_back({input.sizes().vec(), input.scalar_type() == at::kFloat, 0});
      key.push_back(types.back().is_real ? -1 : -2);  // Separates the sizes.
      key.insert(key.end(), input.sizes().begin(), input.sizes().end());
    }
    const std::lock_guard lock(plans_mutex_);
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      Plan plan = make_plan(steps_, types, outputs_, kernels_);
      if (plans_.size() == most_plans) plans_.clear();
      found = plans_.emplace(key, std::make_shared<const Plan>(std::move(plan))).first;
    }
    return found->second;
  }

  // The values of the plan in memory: in `buffer`, in new `outputs`, or in real inputs.
  std::vector<Operand> locate(const Plan& plan, const std::vector<at::Tensor>& inputs,
                              uint8_t* buffer, std::vector<at::Tensor>& outputs) const {
    std::vector<void*> memory(plan.values.size());
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = buffer + plan.offsets[i];
    for (const int64_t value : plan.outputs) {
      const ValueType& type = plan.values[value].type;
      // Later steps may read behind levels.
      outputs.push_back(new_tensor(type, type.is_real ? 0 : kernels_.read_slack));
      memory[value] = outputs.back().mutable_data_ptr();
    }
    std::vector<Operand> operands;
    for (const Placement& value : plan.values) {
      auto* const data = static_cast<uint8_t*>(memory[value.owner]);
      const int64_t offset = value.offset * value.type.element_size();
      operands.push_back({value.type, data + offset, value.stride});
    }
    for (int64_t i = 0; i < input_count_; ++i) {
      if (plan.values[i].type.is_real) {
        operands[i].tensor = &inputs[i];
      } else {
        operands[i].view().copy_(inputs[i]);
      }
    }
    return operands;
  }

  const Kernels& kernels_;
  int64_t input_count_;
  Steps steps_;
  Numbers outputs_;
  std::map<Numbers, std::shared_ptr<const Plan>> plans_;
  std::mutex plans_mutex_;
  BufferPool buffers_;
};

}  // namespace

TORCH_LIBRARY_FRAGMENT(repq_fx, m) {
  m.def("instruction_set() -> str", [] { return std::string(selected_kernels().name); });
  m.class_<Int8Program>("Int8Program")
      .def(torch::init<int64_t, std::optional<std::string>>())
      .def("convolution", &Int8Program::convolution)
      .def("linear", &Int8Program::linear)
      .def("quantize", &Int8Program::quantize)
      .def("dequantize", &Int8Program::dequantize)
      .def("lookup", &Int8Program::lookup)
      .def("combine", &Int8Program::combine)
      .def("max_pool", &Int8Program::max_pool)
      .def("average_pool", &Int8Program::average_pool)
      .def("concatenate", &Int8Program::concatenate)
      .def("channel_slice", &Int8Program::channel_slice)
      .def("channel_chunk", &Int8Program::channel_chunk)
      .def("upsample_nearest", &Int8Program::upsample_nearest)
      .def("pixel_shuffle", &Int8Program::pixel_shuffle)
      .def("flatten", &Int8Program::flatten)
      .def("slice", &Int8Program::slice)
      .def("select", &Int8Program::select)
      .def("pad", &Int8Program::pad)
      .def("channel_lookup", &Int8Program::channel_lookup)
      .def("output", &Int8Program::output)
      .def("run", &Int8Program::run)
      .def("profile", &Int8Program::profile);
}

}  // namespace repq_fx

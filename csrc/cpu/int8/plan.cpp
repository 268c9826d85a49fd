#include "cpu/int8/plan.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {
namespace {

// Repeats a value, and moves its channels to another axis, up to the form in which a step reads it.
class ArrangeStep : public Step {
 public:
  ArrangeStep(int64_t input, ValueType form) : Step({input}), form_(std::move(form)) {}

  ValueType infer(const std::vector<ValueType>&) const override { return form_; }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    result.view().copy_(operands[0].view());  // Repeats what is of size one.
  }

 private:
  ValueType form_;
};

// Memory that is needed from one step to another, both included.
struct Lifetime {
  int64_t value, bytes, first, last;
};

// Finds offsets at which no two values overlap that live at the same time: the largest first, each
// at the lowest offset that is free. Returns the bytes needed.
int64_t place(std::vector<Lifetime> lifetimes, std::vector<int64_t>& offsets) {
  std::stable_sort(lifetimes.begin(), lifetimes.end(),
                   [](const Lifetime& a, const Lifetime& b) { return a.bytes > b.bytes; });
  std::vector<Lifetime> placed;  // By offset.
  const auto lower = [&](const Lifetime& a, const Lifetime& b) {
    return offsets[a.value] < offsets[b.value];
  };
  int64_t total = 0;
  for (const Lifetime& lifetime : lifetimes) {
    int64_t& offset = offsets[lifetime.value];
    offset = 0;
    for (const Lifetime& other : placed) {
      if (other.last < lifetime.first || lifetime.last < other.first) continue;
      if (offset + lifetime.bytes <= offsets[other.value]) break;
      offset = std::max(offset, offsets[other.value] + other.bytes);
    }
    total = std::max(total, offset + lifetime.bytes);
    TORCH_CHECK_VALUE(total <= most_bytes, "program: expected values that fit ", most_bytes,
                      " bytes of memory, got more for inputs of these shapes");
    placed.insert(std::upper_bound(placed.begin(), placed.end(), lifetime, lower), lifetime);
  }
  return total;
}

class Planner {
 public:
  Planner(const Steps& steps, const std::vector<ValueType>& inputs,
          const std::vector<int64_t>& outputs, const Kernels& kernels)
      : kernels_(kernels), inputs_(static_cast<int64_t>(inputs.size())) {
    const std::vector<const Step*> readers = first_readers(steps);
    for (int64_t i = 0; i < inputs_; ++i) {
      numbers_.push_back(i);
      add_value(inputs[i].with_channel_axis(axis_for(readers[i], inputs[i].rank())));
    }
    for (const auto& step : steps) numbers_.push_back(add_call(*step));
    is_output_.resize(values_.size());
    for (const int64_t output : outputs) {
      outputs_.push_back(numbers_[output]);
      is_output_[numbers_[output]] = true;
    }
    const int64_t count = static_cast<int64_t>(values_.size());
    for (int64_t value = inputs_; value < count; ++value) find_parts(value);
  }

  Plan plan() {
    // A part of a part lies in the memory of the whole.
    for (Placement& placement : values_) {
      while (values_[placement.owner].owner != placement.owner) {
        placement.offset += values_[placement.owner].offset;
        placement.owner = values_[placement.owner].owner;
      }
      placement.stride = stride_of(placement.owner);
    }
    std::vector<int64_t> offsets(values_.size());
    const int64_t bytes = place(lifetimes(), offsets);
    return {values_, calls_, outputs_, offsets, bytes, std::move(arrangements_)};
  }

 private:
  static constexpr int64_t alignment = 64;

  static int64_t round_up(int64_t number, int64_t unit) {
    return (number + unit - 1) / unit * unit;
  }

  // For each value the first step that reads it, or what is made of it element by element, and asks
  // for a certain channel axis; or null.
  std::vector<const Step*> first_readers(const Steps& steps) const {
    std::vector<const Step*> readers(inputs_ + steps.size());
    for (int64_t i = static_cast<int64_t>(steps.size()) - 1; i >= 0; --i) {
      const Step* const step = steps[i].get();
      const Step* const reader = step->channel_axis(4) ? step : readers[inputs_ + i];
      if (reader == nullptr) continue;
      for (const int64_t input : step->inputs) readers[input] = reader;
    }
    return readers;
  }

  // Where a program's input has its channels. Any axis is right; a good one saves rearranging.
  static int64_t axis_for(const Step* reader, int64_t rank) {
    const int64_t likely = rank == 4 ? 1 : rank - 1;
    const int64_t axis = reader ? reader->channel_axis(rank).value_or(likely) : likely;
    return std::min(axis, rank - 1);
  }

  // The number of the result.
  int64_t add_call(const Step& step) {
    const std::vector<ValueType> forms = step.forms(types_of(step));
    Call call{&step, {}};
    for (size_t i = 0; i < forms.size(); ++i) {
      call.inputs.push_back(arranged(numbers_[step.inputs[i]], forms[i]));
    }
    calls_.push_back(std::move(call));
    return add_value(step.infer(forms));
  }

  // The number of a value with the numbers of `value` in this form.
  int64_t arranged(int64_t value, const ValueType& form) {
    const ValueType& type = values_[value].type;
    if (type == form) return value;
    TORCH_CHECK_NOT_IMPLEMENTED(!type.is_real, "program: expected real numbers of shape ",
                                shape_of(form), ", got ", shape_of(type));
    arrangements_.push_back(std::make_unique<ArrangeStep>(value, form));
    calls_.push_back({arrangements_.back().get(), {value}});
    return add_value(form);
  }

  std::vector<ValueType> types_of(const Step& step) const {
    std::vector<ValueType> types;
    for (const int64_t input : step.inputs) {
      types.push_back(values_[numbers_[input]].type);
      const auto name = [](bool is_real) { return is_real ? "float32" : "uint8"; };
      TORCH_CHECK_TYPE(types.back().is_real == step.takes_reals(), "program: expected ",
                       name(step.takes_reals()), " input, got ", name(types.back().is_real));
    }
    return types;
  }

  int64_t add_value(const ValueType& type) {
    require_possible_size(type);
    const int64_t value = static_cast<int64_t>(values_.size());
    values_.push_back({type, value, 0, 0});
    return value;
  }

  bool owns_memory(int64_t value) const { return values_[value].owner == value; }

  // Outputs have memory of their own, which leaves the program, as have real numbers.
  void find_parts(int64_t value) {
    const auto& [step, inputs] = calls_[value - inputs_];
    if (values_[value].type.is_real) return;
    const auto selected = step->first_channel(values_[inputs[0]].type);
    if (selected && !is_output_[value]) {
      values_[value].owner = inputs[0];
      values_[value].offset = *selected;
    }
    if (!step->joins()) return;
    int64_t first = 0;
    for (const int64_t input : inputs) {
      if (can_be_part(input)) {
        values_[input].owner = value;
        values_[input].offset = first;
      }
      first += values_[input].type.channels();
    }
  }

  // Inputs of the program are written before the first step, which a part must not be.
  bool can_be_part(int64_t value) const {
    return value >= inputs_ && owns_memory(value) && !is_output_[value] &&
           !calls_[value - inputs_].step->writes_between_pixels();
  }

  // Whole groups of channels can be read from images within a program.
  int64_t stride_of(int64_t owner) const {
    const ValueType& type = values_[owner].type;
    return type.is_real || is_output_[owner] ? type.channels()
                                             : round_up(type.channels(), kernels_.channel_multiple);
  }

  std::vector<Lifetime> lifetimes() const {
    std::vector<Lifetime> lifetimes;
    for (int64_t value = 0; value < static_cast<int64_t>(values_.size()); ++value) {
      const ValueType& type = values_[value].type;
      const int64_t bytes = type.pixels() * values_[value].stride * type.element_size();
      const int64_t step = std::max<int64_t>(0, value - inputs_);
      lifetimes.push_back({value, round_up(bytes + kernels_.read_slack, alignment), step, step});
    }
    const auto extend = [&](int64_t value, int64_t step) {
      Lifetime& owner = lifetimes[values_[value].owner];
      owner.first = std::min(owner.first, step);
      owner.last = std::max(owner.last, step);
    };
    for (int64_t step = 0; step < static_cast<int64_t>(calls_.size()); ++step) {
      extend(inputs_ + step, step);
      for (const int64_t input : calls_[step].inputs) extend(input, step);
    }
    // Real inputs are read where they are.
    std::erase_if(lifetimes, [&](const Lifetime& lifetime) {
      const bool is_real_input = lifetime.value < inputs_ && values_[lifetime.value].type.is_real;
      return !owns_memory(lifetime.value) || is_output_[lifetime.value] || is_real_input;
    });
    return lifetimes;
  }

  const Kernels& kernels_;
  int64_t inputs_;
  std::vector<int64_t> numbers_;  // Of the program's values in the plan.
  std::vector<Call> calls_;
  std::vector<int64_t> outputs_;
  Steps arrangements_;
  std::vector<Placement> values_;
  std::vector<bool> is_output_;
};

}  // namespace

Plan make_plan(const Steps& steps, const std::vector<ValueType>& inputs,
               const std::vector<int64_t>& outputs, const Kernels& kernels) {
  return Planner(steps, inputs, outputs, kernels).plan();
}

}  // namespace repq_fx

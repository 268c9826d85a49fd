// The steps of a program.
#pragma once

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/value.h"

namespace repq_fx {

class Step {
 public:
  explicit Step(std::vector<int64_t> inputs) : inputs(std::move(inputs)) {}
  virtual ~Step() = default;

  // Whether the inputs are real numbers.
  virtual bool takes_reals() const { return false; }
  // The axis on which the step has to find the channels of an input of so many axes; nothing for a
  // step that takes any.
  virtual std::optional<int64_t> channel_axis(int64_t) const { return std::nullopt; }
  // The forms in which the step reads inputs of these types.
  virtual std::vector<ValueType> forms(std::vector<ValueType> types) const {
    for (ValueType& type : types) {
      const int64_t axis = channel_axis(type.rank()).value_or(type.channel_axis);
      TORCH_CHECK_VALUE(axis < type.rank(), "program: expected an input with channels on axis ",
                        axis, ", got shape ", shape_of(type));
      type.channel_axis = axis;
    }
    return types;
  }
  // The type of the result for inputs in those forms; refuses inputs of other shapes.
  virtual ValueType infer(const std::vector<ValueType>& types) const = 0;
  virtual void run(const std::vector<Operand>& operands, const Operand& result) const = 0;

  // The first channel of the result in the input, for a step that only selects channels: its result
  // may then lie in the memory of its input.
  virtual std::optional<int64_t> first_channel(const ValueType&) const { return std::nullopt; }
  // Whether more is written than the channels, up to the next pixel.
  virtual bool writes_between_pixels() const { return false; }
  // Whether the inputs, channel after channel, are the result, and may lie in its memory.
  virtual bool joins() const { return false; }

  const std::vector<int64_t> inputs;  // The numbers of values.
};

using Steps = std::vector<std::unique_ptr<Step>>;

// Runs `tasks` pieces, of `work` operations in all, on as many threads as that pays for.
template <typename Run>
void run_tasks(int64_t tasks, int64_t work, const Run& run) {
  constexpr int64_t least_work = 1 << 16;  // Operations that pay for waking a thread.
  const int64_t grain = tasks * least_work / std::max<int64_t>(1, work);
  at::parallel_for(0, tasks, std::max<int64_t>(1, grain), run);
}

// Before any product of the sizes is used. Sizes of 0 count as 1: an empty batch must not hide what
// the other sizes make of a full one.
inline void require_possible_size(const ValueType& type) {
  int64_t elements = 1;
  for (const int64_t size : type.sizes) {
    const bool wraps = __builtin_mul_overflow(elements, std::max<int64_t>(1, size), &elements);
    TORCH_CHECK_VALUE(size >= 0 && !wraps && elements <= most_bytes,
                      "program: expected values of up to ", most_bytes, " elements, got shape ",
                      shape_of(type));
  }
}

inline void require_image(const char* step, const ValueType& type) {
  TORCH_CHECK_NOT_IMPLEMENTED(type.is_image(), step,
                              ": expected an image of shape [N, C, H, W] or [C, H, W], got ",
                              shape_of(type));
}

// An empty image has no nearest pixel and no mean; an empty batch has.
inline void require_pixels(const char* step, const ValueType& type) {
  TORCH_CHECK_VALUE(type.height() > 0 && type.width() > 0, step,
                    ": expected an image with pixels, got ", shape_of(type));
}

// A step on images: see `ValueType::is_image`.
class ImageStep : public Step {
 public:
  using Step::Step;

  std::optional<int64_t> channel_axis(int64_t rank) const override {
    if (rank != 3 && rank != 4) return std::nullopt;
    return rank - 3;
  }
};

// A step on the axis behind the first.
class SecondAxisStep : public Step {
 public:
  using Step::Step;

  std::optional<int64_t> channel_axis(int64_t) const override { return 1; }
};

}  // namespace repq_fx

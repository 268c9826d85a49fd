// Where the values of a program lie in memory, for inputs of certain shapes.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {

struct Placement {
  ValueType type;
  int64_t owner;   // The value in whose memory this one lies, perhaps itself.
  int64_t offset;  // Elements from the start of that memory.
  int64_t stride;  // Elements from pixel to pixel.
};

// A step on the values of a plan.
struct Call {
  const Step* step;
  std::vector<int64_t> inputs;
};

struct Plan {
  std::vector<Placement> values;  // The inputs of the program first, then the result of each call.
  std::vector<Call> calls;        // Of the program's steps and of `arrangements`.
  std::vector<int64_t> outputs;   // The numbers of the program's outputs among `values`.
  std::vector<int64_t> offsets;   // In the buffer, in bytes, of each value that owns memory there.
  int64_t bytes;                  // Of the buffer.
  Steps arrangements;             // Where a step reads a value in another form than it has.
};

// `inputs` are the types of the program's inputs, `outputs` the numbers of its outputs; memory is
// laid out as `kernels` need it.
Plan make_plan(const Steps& steps, const std::vector<ValueType>& inputs,
               const std::vector<int64_t>& outputs, const Kernels& kernels);

}  // namespace repq_fx

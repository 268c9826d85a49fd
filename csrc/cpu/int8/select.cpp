// Which instruction set runs.
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/int8/kernels.h"

namespace repq_fx {
namespace {

template <typename Entry>
bool fill(Entry& entry, Entry portable) {
  if (entry != nullptr) return false;
  entry = portable;
  return true;
}

// The set with the portable kernels in its empty entries, and memory that suits all.
Kernels completed(Kernels set) {
  const Kernels& portable = portable::kernels;
  bool mixed = fill(set.convolution, portable.convolution);
  mixed |= fill(set.depthwise, portable.depthwise);
  mixed |= fill(set.quantize, portable.quantize);
  mixed |= fill(set.dequantize, portable.dequantize);
  mixed |= fill(set.lookup, portable.lookup);
  mixed |= fill(set.channel_lookup, portable.channel_lookup);
  mixed |= fill(set.combine, portable.combine);
  mixed |= fill(set.maximum, portable.maximum);
  mixed |= fill(set.mean, portable.mean);
  mixed |= fill(set.copy_pixels, portable.copy_pixels);
  mixed |= fill(set.upsample_nearest, portable.upsample_nearest);
  mixed |= fill(set.pixel_shuffle, portable.pixel_shuffle);
  if (mixed) {
    set.channel_multiple = std::lcm(set.channel_multiple, portable.channel_multiple);
    set.read_slack = std::max(set.read_slack, portable.read_slack);
  }
  return set;
}

// The best first.
const std::vector<Kernels>& sets() {
  static const std::vector<Kernels> sets = [] {
    std::vector<Kernels> compiled;
    for (const Kernels* set : {avx512_vnni::kernels, &portable::kernels}) {
      if (set != nullptr) compiled.push_back(completed(*set));
    }
    return compiled;
  }();
  return sets;
}

// `source` is where the name stands.
const Kernels& set_named(std::string_view name, const char* source) {
  std::string names;
  for (const Kernels& set : sets()) {
    if (!set.runs_here()) continue;
    if (set.name == name) return set;
    names += (names.empty() ? "" : ", ") + std::string(set.name);
  }
  TORCH_CHECK_VALUE(false, source, ": expected an instruction set of this machine (", names,
                    "), got ", name);
}

}  // namespace

const Kernels& selected_kernels() {
  static const Kernels& selected = []() -> const Kernels& {
    constexpr const char* variable = "REPQ_FX_ISA";
    const char* const name = std::getenv(variable);
    if (name != nullptr && *name != '\0') return set_named(name, variable);
    return *std::ranges::find_if(sets(), [](const Kernels& set) { return set.runs_here(); });
  }();
  return selected;
}

const Kernels& kernels_named(std::string_view name) { return set_named(name, "program"); }

}  // namespace repq_fx

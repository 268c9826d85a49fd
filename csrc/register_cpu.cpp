// Registers the kernels of the CPU, apart from them: the headers of torch's registration take
// longer to compile than a kernel does.
#include <torch/library.h>

#include "cpu/operators.h"

namespace repq_fx {

TORCH_LIBRARY_IMPL(repq_fx, CPU, m) {
  m.impl("dequantize", &dequantize_cpu);
  m.impl("fake_quantize", &fake_quantize_cpu);
  m.impl("fake_quantize_backward", &fake_quantize_backward_cpu);
  m.impl("histogram", &histogram_cpu);
  m.impl("kl_divergences", &kl_divergences_cpu);
  m.impl("quantize", &quantize_cpu);
  m.impl("range_losses", &range_losses_cpu);
  m.impl("search_scale", &search_scale_cpu);
  m.impl("soft_round", &soft_round_cpu);
  m.impl("soft_round_backward", &soft_round_backward_cpu);
  m.impl("update_histogram", &update_histogram_cpu);
}

}  // namespace repq_fx

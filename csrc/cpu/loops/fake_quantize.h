#pragma once

#include "common/fake_quantize.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

struct FakeQuantizeLoop {
  FakeQuantizeLimits limits;
  Rounding rounding;
  bool one_channel;  // Else each lane has its own.

  bool is_random() const { return rounding == Rounding::stochastic || limits.keep > 0; }
};

template <Rounding rounding, typename Pass>
REPQ_FX_INLINE void run_rounding(const Pass& pass, const FakeQuantizeLoop& loop) {
  if (loop.limits.keep > 0) {
    loop.one_channel ? pass.template run<rounding, true, true>(loop.limits)
                     : pass.template run<rounding, true, false>(loop.limits);
  } else {
    loop.one_channel ? pass.template run<rounding, false, true>(loop.limits)
                     : pass.template run<rounding, false, false>(loop.limits);
  }
}

// Runs `pass`, for which what `loop` says are constants.
template <typename Pass>
REPQ_FX_INLINE void run_loop(const Pass& pass, const FakeQuantizeLoop& loop) {
  switch (loop.rounding) {
    case Rounding::nearest_even:
      return run_rounding<Rounding::nearest_even>(pass, loop);
    case Rounding::half_up:
      return run_rounding<Rounding::half_up>(pass, loop);
    case Rounding::floor:
      return run_rounding<Rounding::floor>(pass, loop);
    case Rounding::stochastic:
      return run_rounding<Rounding::stochastic>(pass, loop);
  }
}

}  // namespace repq_fx

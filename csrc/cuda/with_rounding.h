#pragma once

#include <type_traits>

#include "common/rounding.h"

namespace repq_fx {

// Calls `call` with the rounding as a constant.
template <typename Call>
void with_rounding(Rounding rounding, const Call& call) {
  switch (rounding) {
    case Rounding::nearest_even:
      return call(std::integral_constant<Rounding, Rounding::nearest_even>{});
    case Rounding::half_up:
      return call(std::integral_constant<Rounding, Rounding::half_up>{});
    case Rounding::floor:
      return call(std::integral_constant<Rounding, Rounding::floor>{});
    case Rounding::stochastic:
      return call(std::integral_constant<Rounding, Rounding::stochastic>{});
  }
}

// Also with whether values are kept, which stochastic rounding excludes.
template <typename Call>
void with_rounding(Rounding rounding, bool keeps, const Call& call) {
  with_rounding(rounding, [&](auto fixed) {
    if constexpr (decltype(fixed)::value == Rounding::stochastic) {
      call(fixed, std::false_type{});
    } else {
      keeps ? call(fixed, std::true_type{}) : call(fixed, std::false_type{});
    }
  });
}

}  // namespace repq_fx

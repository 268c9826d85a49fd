// The data in a histogram, and what of it lies beyond a point.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

namespace repq_fx {

// The data on one side of zero, mirrored to be positive, in bins of width 1.
struct Side {
  // The first bin is that at zero, the others follow every `step` values.
  Side(const double* values, int64_t step, int64_t bins)
      : bins(bins),
        counts(bins + 2),
        edges_up_to(bins + 1),
        mass(bins + 2),
        first(bins + 2),
        second(bins + 2) {
    for (int64_t k = 0; k < bins; ++k) counts[k] = values[k * step];
    for (int64_t k = 0; k < bins; ++k) {
      const double fall = counts[k] - counts[k + 1];
      if (fall != 0.0) {
        edges.push_back(static_cast<double>(k + 1));
        falls.push_back(fall);
      }
      edges_up_to[k + 1] = std::ssize(edges);
    }
    // All terms are positive: nothing cancels.
    for (int64_t k = bins - 1; k >= 0; --k) {
      mass[k] = mass[k + 1] + counts[k];
      first[k] = first[k + 1] + (mass[k + 1] + counts[k] / 2.0);
      second[k] = second[k + 1] + (2.0 * first[k + 1] + mass[k + 1] + counts[k] / 3.0);
    }
  }

  int64_t bins;
  std::vector<double> counts;        // And two zeros.
  std::vector<double> edges, falls;  // Where the density changes, and by how much it falls there.
  std::vector<int64_t> edges_up_to;  // How many edges are at most k.
  // Integrals of (x - k)**m over the data x beyond k, for m = 0, 1 and 2, and a zero.
  std::vector<double> mass, first, second;
};

// An end of a grid, and the data x beyond it.
struct End {
  End(const Side& side, double position) {
    const double inside = std::min(position, static_cast<double>(side.bins));
    const auto bin = static_cast<int64_t>(inside);
    const double rest = static_cast<double>(bin + 1) - inside;
    edges = side.edges_up_to[bin];
    density = side.counts[bin];
    mass = side.mass[bin + 1] + density * rest;
    first = side.first[bin + 1] + (rest * side.mass[bin + 1] + density * rest * rest / 2.0);
    second = side.second[bin + 1] +
             (2.0 * rest * side.first[bin + 1] +
              (rest * rest * side.mass[bin + 1] + density * rest * rest * rest / 3.0));
  }

  int64_t edges;               // How many do not lie beyond the end.
  double density;              // Just beyond it.
  double mass, first, second;  // Integrals of (x - end)**m.
};

}  // namespace repq_fx

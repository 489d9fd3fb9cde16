// Median and spread of samples.
#pragma once
#include <algorithm>
#include <cassert>
#include <vector>

namespace tqkv::measure {

struct Spread {
  double median = 0, min = 0, max = 0;
};

/// Of at least one sample. An even number of samples: the mean of the two in the middle.
inline Spread spread_of(std::vector<double> samples) {
  assert(!samples.empty());
  std::sort(samples.begin(), samples.end());
  const std::size_t half = samples.size() / 2;
  const double median = samples.size() % 2 == 1 ? samples[half] : 0.5 * (samples[half - 1] + samples[half]);
  return {median, samples.front(), samples.back()};
}

/// Sample by sample: samples of the same index were taken in the same round.
inline Spread paired_ratio(const std::vector<double>& samples, const std::vector<double>& baseline) {
  assert(samples.size() == baseline.size());
  std::vector<double> ratios(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) ratios[i] = samples[i] / baseline[i];
  return spread_of(std::move(ratios));
}

/// Of medians, with the widest range that the samples allow: for samples that were not taken in rounds.
inline Spread unpaired_ratio(const Spread& samples, const Spread& baseline) {
  return {samples.median / baseline.median, samples.min / baseline.max, samples.max / baseline.min};
}

}  // namespace tqkv::measure

#include "measure/files/speed.h"

#include <algorithm>

namespace tqkv::measure {
namespace {

template <class Get>
std::vector<double> samples(const BenchmarkRun& run, const Get& get) {
  std::vector<double> values;
  for (const Trial& trial : run.trials) values.push_back(get(trial));
  return values;
}

}  // namespace

bool BenchmarkRun::as_predicted() const {
  return std::all_of(trials.begin(), trials.end(), [&](const Trial& trial) {
    return trial.cache.kv_used == predicted.kv_used && trial.cache.kv_allocated == predicted.kv_allocated &&
           trial.cache.state() == predicted.state();
  });
}

std::vector<double> BenchmarkRun::prompt_tps() const {
  return samples(*this, [](const Trial& trial) { return trial.prompt_tps; });
}

std::vector<double> BenchmarkRun::generation_tps() const {
  if (lengths.generation_tokens == 1) return {};
  return samples(*this, [](const Trial& trial) { return trial.generation_tps.value_or(0); });
}

std::uint64_t BenchmarkRun::peak_anonymous() const {
  std::uint64_t peak = 0;
  for (const Trial& trial : trials) peak = std::max(peak, trial.peak_anonymous);
  return peak;
}

SpeedRatios ratios_of(const BenchmarkRun& run, const BenchmarkRun& baseline, bool one_file) {
  SpeedRatios ratios;
  ratios.paired = one_file && baseline.trials.size() == run.trials.size();
  const auto ratio = [&](const std::vector<double>& own, const std::vector<double>& reference) {
    return ratios.paired ? paired_ratio(own, reference) : unpaired_ratio(spread_of(own), spread_of(reference));
  };
  ratios.prompt_tps = ratio(run.prompt_tps(), baseline.prompt_tps());
  if (run.lengths.generation_tokens > 1) ratios.generation_tps = ratio(run.generation_tps(), baseline.generation_tps());
  return ratios;
}

}  // namespace tqkv::measure

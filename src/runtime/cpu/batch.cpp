#include "runtime/cpu/batch.h"

#include <algorithm>
#include <tuple>

namespace tqkv::cpu {
namespace {

Run alone(const Segment& segment) {
  Run run{segment.first, segment.rows(), segment.rows() == 1, {}, additions_of(segment.rows())};
  if (!run.single) run.bits = segment.state->activations;
  return run;
}

auto order(const Segment& segment) {
  const Run run = alone(segment);
  return std::tuple(!run.single, run.bits.expert_input, run.bits.tolerant, run.additions);
}

}  // namespace

Batch::Batch(std::vector<Segment> segments) : segments_(std::move(segments)) {
  std::stable_sort(segments_.begin(), segments_.end(),
                   [](const Segment& a, const Segment& b) { return order(a) < order(b); });
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    Segment& segment = segments_[i];
    segment.first = rows_;
    rows_ += segment.rows();
    const Run run = alone(segment);
    if (run.single) ++singles_;
    const auto sequence = std::ranges::find_if(sequences_, [&](const std::vector<int>& own) {
      return segments_[static_cast<std::size_t>(own.front())].state == segment.state;
    });
    if (sequence == sequences_.end())
      sequences_.push_back({static_cast<int>(i)});
    else
      sequence->push_back(static_cast<int>(i));
    if (!runs_.empty() && runs_.back().like(run))
      runs_.back().count += run.count;
    else
      runs_.push_back(run);
    segment_of_.insert(segment_of_.end(), segment.ids.size(), static_cast<int>(i));
    run_of_.insert(run_of_.end(), segment.ids.size(), static_cast<int>(runs_.size()) - 1);
  }
}

const Segment& Batch::segment_of(const CpuState& state, int position) const {
  return *std::find_if(segments_.begin(), segments_.end(),
                       [&](const Segment& one) { return one.state == &state && one.position == position; });
}

}  // namespace tqkv::cpu

#include "measure/page/labels.h"

#include <algorithm>

#include "measure/page/svg.h"

namespace tqkv::measure {
Styles::Styles(const std::vector<std::string>& formats) {
  // Baseline always has the dark cross.
  constexpr int baseline_style = 6;
  constexpr int order[] = {0, 1, 2, 3, 4, 5, 7, 8, 9};
  std::vector<std::string> others, backends;
  const auto add = [](std::vector<std::string>& list, const std::string& entry) {
    if (std::find(list.begin(), list.end(), entry) == list.end()) list.push_back(entry);
  };
  for (const std::string& format : formats) {
    if (backend_of(format) == "baseline") {
      index_[format] = baseline_style;
      continue;
    }
    add(others, format);
    add(backends, backend_of(format));
  }
  by_format_ = others.size() <= std::size(order);
  const std::vector<std::string>& named = by_format_ ? others : backends;
  for (const std::string& format : others) {
    const auto place = std::find(named.begin(), named.end(), by_format_ ? format : backend_of(format)) - named.begin();
    index_[format] = order[static_cast<std::size_t>(place) % std::size(order)];
  }
}

int Styles::of(const std::string& format) const {
  const auto found = index_.find(format);
  return found == index_.end() ? series_count - 1 : found->second;
}

std::vector<std::size_t> pareto_front(const std::vector<RatePoint>& points) {
  std::vector<std::size_t> front;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const bool beaten = std::any_of(points.begin(), points.end(), [&](const RatePoint& other) {
      return other.bits <= points[i].bits && other.error <= points[i].error &&
             (other.bits < points[i].bits || other.error < points[i].error);
    });
    if (!beaten) front.push_back(i);
  }
  std::stable_sort(front.begin(), front.end(),
                   [&](std::size_t a, std::size_t b) { return points[a].bits < points[b].bits; });
  return front;
}

}  // namespace tqkv::measure

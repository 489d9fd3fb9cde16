#include "measure/tune/choice.h"

namespace tqkv::measure {
namespace {

const TuneSide::Point& point_of(const TuneSide& side, int index) {
  return side.points[static_cast<std::size_t>(index)];
}

}  // namespace

double sum_of_kl(const std::vector<TuneSide>& sides, const std::vector<int>& points) {
  double sum = 0;
  for (std::size_t i = 0; i < sides.size(); ++i) sum += point_of(sides[i], points[i]).kl;
  return sum;
}

std::uint64_t sum_of_bytes(const std::vector<TuneSide>& sides, const std::vector<int>& points) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < sides.size(); ++i) sum += point_of(sides[i], points[i]).bytes;
  return sum;
}

std::optional<std::vector<int>> choose_bits(const std::vector<TuneSide>& sides, std::uint64_t bytes) {
  std::vector<int> chosen(sides.size());
  std::uint64_t used = sum_of_bytes(sides, chosen);
  if (used > bytes) return std::nullopt;
  while (true) {
    double best = 0;
    std::size_t side = 0;
    int to = 0;
    for (std::size_t i = 0; i < sides.size(); ++i) {
      const TuneSide::Point& now = point_of(sides[i], chosen[i]);
      for (int next = chosen[i] + 1; next < static_cast<int>(sides[i].points.size()); ++next) {
        const TuneSide::Point& then = point_of(sides[i], next);
        const std::uint64_t more = then.bytes - now.bytes;
        if (more > bytes - used) continue;
        const double gain = (now.kl - then.kl) / static_cast<double>(more);
        if (gain > best) {
          best = gain;
          side = i;
          to = next;
        }
      }
    }
    if (best == 0) return chosen;
    used += point_of(sides[side], to).bytes - point_of(sides[side], chosen[side]).bytes;
    chosen[side] = to;
  }
}

}  // namespace tqkv::measure

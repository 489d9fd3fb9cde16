#include "measure/recall/score.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <map>

namespace tqkv::measure {

double student_95(int degrees) {
  constexpr double tabled[] = {12.7062, 4.3027, 3.1824, 2.7764};
  assert(degrees > 0);
  if (degrees <= 4) return tabled[degrees - 1];
  const double z = normal_95, z2 = z * z, n = degrees;
  return z * (1 + (z2 + 1) / (4 * n) + ((5 * z2 + 16) * z2 + 3) / (96 * n * n) +
              (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * n * n * n));
}

Proportion wilson(int right, int asked) {
  Proportion result{asked, right, 0, 1};
  if (asked == 0) return result;
  const double n = asked, p = right / n, z2 = normal_95 * normal_95;
  const double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = normal_95 * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  result.low = right == 0 ? 0 : std::max(0.0, middle - half);
  result.high = right == asked ? 1 : std::min(1.0, middle + half);
  return result;
}

PairedDifference paired_difference(const std::vector<std::vector<int>>& reference,
                                   const std::vector<std::vector<int>>& own) {
  assert(reference.size() == own.size());
  PairedDifference result;
  std::vector<double> sums, sizes;  // of each context
  double asked = 0;
  for (std::size_t context = 0; context < own.size(); ++context) {
    assert(reference[context].size() == own[context].size());
    if (own[context].empty()) continue;
    int sum = 0;
    for (std::size_t i = 0; i < own[context].size(); ++i) {
      const int difference = own[context][i] - reference[context][i];
      if (difference < 0) ++result.only_reference;
      if (difference > 0) ++result.only_this;
      sum += difference;
    }
    sums.push_back(sum);
    sizes.push_back(static_cast<double>(own[context].size()));
    asked += sizes.back();
  }
  result.contexts = static_cast<int>(sums.size());
  if (asked == 0) return result;
  const double mean = (result.only_this - result.only_reference) / asked;

  const double gained = (result.only_this + 1) / (asked + 2), lost = (result.only_reference + 1) / (asked + 2);
  const double shrunk = gained - lost;
  const double half = normal_95 * std::sqrt((gained + lost - shrunk * shrunk) / (asked + 2));
  double low = shrunk - half, high = shrunk + half;
  if (sums.size() > 1) {
    double squares = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const double residual = sums[i] - sizes[i] * mean;
      squares += residual * residual;
    }
    const auto clusters = static_cast<double>(sums.size());
    const double error = std::sqrt(squares * clusters / (clusters - 1)) / asked;
    const double reach = student_95(result.contexts - 1) * error;
    low = std::min(low, mean - reach);
    high = std::max(high, mean + reach);
  }
  result.points = 100 * mean;
  result.low = 100 * std::max(low, -1.0);
  result.high = 100 * std::min(high, 1.0);
  return result;
}

void score(RecallResult& result, const std::vector<RecallContext>& contexts, const std::vector<double>& depths,
           const std::vector<std::vector<int>>& reference) {
  assert(contexts.size() == result.answers.size());
  struct Count {
    int right = 0, asked = 0;
    void add(int answer) {
      right += answer;
      ++asked;
    }
    Proportion of() const { return wilson(right, asked); }
  };
  std::map<RecallTask, Count> tasks;
  std::map<int, Count> lengths;
  std::map<std::pair<int, std::size_t>, Count> cells;
  Count total;
  for (std::size_t context = 0; context < contexts.size(); ++context) {
    const RecallContext& about = contexts[context];
    for (std::size_t i = 0; i < result.answers[context].size(); ++i) {
      const int answer = result.answers[context][i];
      total.add(answer);
      tasks[about.task].add(answer);
      lengths[about.length].add(answer);
      if (about.task == RecallTask::needle && i < depths.size()) cells[{about.length, i}].add(answer);
    }
  }
  result.tasks.clear();
  result.lengths.clear();
  result.needle.clear();
  for (const auto& [task, count] : tasks) result.tasks.push_back({task, count.of()});
  for (const auto& [length, count] : lengths) result.lengths.push_back({length, count.of()});
  for (const auto& [cell, count] : cells) result.needle.push_back({cell.first, depths[cell.second], count.of()});
  result.total = total.of();
  result.paired = paired_difference(reference, result.answers);
}

}  // namespace tqkv::measure

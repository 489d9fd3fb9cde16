#include "measure/agreement/agreement.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "measure/figures/kl.h"

namespace tqkv::measure {
namespace {

template <class Get>
std::vector<double> values_of(std::span<const RowFigures> rows, const Get& get) {
  std::vector<double> values(rows.size());
  std::transform(rows.begin(), rows.end(), values.begin(), get);
  return values;
}

}  // namespace

RowFigures compare_row(const ReferenceRow& reference, std::span<const float> logits) {
  assert(reference.log_p.size() == logits.size());
  RowFigures row;
  row.same_top = argmax(logits) == reference.top;
  const double norm = log_sum_exp(logits);
  row.kl = kl_of([&](std::size_t i) { return static_cast<double>(reference.log_p[i]); }, logits, norm);
  row.reference_log_p = reference.next_log_p;
  row.log_p = static_cast<double>(logits[static_cast<std::size_t>(reference.next)]) - norm;
  return row;
}

MeanError clustered_mean(std::span<const double> values, int block) {
  assert(!values.empty() && block > 0);
  const auto n = static_cast<double>(values.size());
  MeanError result;
  for (const double value : values) result.mean += value;
  result.mean /= n;
  double squares = 0;
  int clusters = 0;
  for (std::size_t first = 0; first < values.size(); first += static_cast<std::size_t>(block), ++clusters) {
    const std::size_t last = std::min(values.size(), first + static_cast<std::size_t>(block));
    double sum = 0;
    for (std::size_t i = first; i < last; ++i) sum += values[i] - result.mean;
    squares += sum * sum;
  }
  if (clusters > 1) result.se = std::sqrt(squares * clusters / (clusters - 1)) / n;
  return result;
}

int block_of(std::size_t rows) {
  return std::clamp(static_cast<int>(std::min<std::size_t>(rows / 8, 256)), 1, 256);
}

double quantile(std::span<const double> sorted, double share) {
  assert(!sorted.empty());
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

AgreementPart part_of(std::span<const RowFigures> rows) {
  assert(!rows.empty());
  const int block = block_of(rows.size());
  const auto n = static_cast<double>(rows.size());
  AgreementPart part;
  part.rows = static_cast<int>(rows.size());

  std::vector<double> kl = values_of(rows, [](const RowFigures& row) { return row.kl; });
  const MeanError kl_mean = clustered_mean(kl, block);
  part.kl.mean = kl_mean.mean;
  part.kl.se = kl_mean.se;
  std::sort(kl.begin(), kl.end());
  part.kl.median = quantile(kl, 0.5);
  part.kl.p90 = quantile(kl, 0.9);
  part.kl.p99 = quantile(kl, 0.99);
  part.kl.p999 = quantile(kl, 0.999);
  part.kl.max = kl.back();

  const auto same = std::count_if(rows.begin(), rows.end(), [](const RowFigures& row) { return row.same_top; });
  part.same_top = static_cast<double>(same) / n;
  part.same_top_se = std::sqrt(part.same_top * (1 - part.same_top) / n);

  double own = 0, reference = 0, change = 0, squares = 0;
  for (const RowFigures& row : rows) {
    own -= row.log_p;
    reference -= row.reference_log_p;
    const double difference = std::exp(row.log_p) - std::exp(row.reference_log_p);
    change += difference;
    squares += difference * difference;
  }
  part.perplexity = std::exp(own / n);
  part.reference_perplexity = std::exp(reference / n);
  const MeanError loss =
      clustered_mean(values_of(rows, [](const RowFigures& row) { return row.reference_log_p - row.log_p; }), block);
  part.ratio = std::exp(loss.mean);
  if (loss.se) part.ratio_se = part.ratio * *loss.se;
  part.probability_mean = change / n;
  part.probability_rms = std::sqrt(squares / n);
  return part;
}

std::vector<int> position_edges() {
  return {256, 1024, 2048, 4096, 8192, 16384, 32768};
}

Agreement agreement_of(std::span<const RowFigures> rows, int decode_from) {
  Agreement agreement;
  agreement.all = part_of(rows);
  agreement.block = block_of(rows.size());
  for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(agreement.block)) {
    const auto of = rows.subspan(first, std::min(static_cast<std::size_t>(agreement.block), rows.size() - first));
    double sum = 0;
    for (const RowFigures& row : of) sum += row.kl;
    agreement.block_kl.push_back(sum / static_cast<double>(of.size()));
  }
  const std::size_t prefilled = std::min(static_cast<std::size_t>(decode_from), rows.size());
  if (prefilled > 0) agreement.prefill = part_of(rows.first(prefilled));
  if (prefilled < rows.size()) agreement.decode = part_of(rows.subspan(prefilled));
  std::size_t from = 0;
  for (const int edge : position_edges()) {
    const std::size_t to = std::min(static_cast<std::size_t>(edge), rows.size());
    if (to == from) break;
    agreement.by_position.push_back({static_cast<int>(from), edge, part_of(rows.subspan(from, to - from))});
    from = to;
  }
  if (from < rows.size())
    agreement.by_position.push_back(
        {static_cast<int>(from), static_cast<int>(rows.size()), part_of(rows.subspan(from))});
  return agreement;
}

}  // namespace tqkv::measure

// Agreement of two caches, row of logits by row of logits.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "measure/agreement/evaluate.h"
#include "measure/agreement/reference.h"

namespace tqkv::measure {

/// What is kept of one row.
struct RowFigures {
  double kl = 0;                          // nats, KL(reference || this)
  double reference_log_p = 0, log_p = 0;  // of the next id
  bool same_top = false;
};

/// `logits` [vocab] against a row of the reference.
RowFigures compare_row(const ReferenceRow& reference, std::span<const float> logits);

/// Mean of `values` with its standard error; blocks of `block` neighbours are clusters. No error for one value.
struct MeanError {
  double mean = 0;
  std::optional<double> se;
};
MeanError clustered_mean(std::span<const double> values, int block);
/// 256, or less where that would give fewer than 8 blocks.
int block_of(std::size_t rows);

/// Value below which a share of the sorted values lies, between two of them by their distance (type 7 of Hyndman and
/// Fan, 1996: the default of R and NumPy).
double quantile(std::span<const double> sorted, double share);

/// At least one row.
AgreementPart part_of(std::span<const RowFigures> rows);
/// Edges of the buckets of positions; the last bucket is open.
std::vector<int> position_edges();
/// Row i is that of token i; rows from `decode_from` on were fed one by one.
Agreement agreement_of(std::span<const RowFigures> rows, int decode_from);

}  // namespace tqkv::measure

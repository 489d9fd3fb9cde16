// Captured vectors: the figures of a format over all layers of a model.
#pragma once
#include <string>
#include <vector>

#include "measure/files/evaluation.h"

namespace tqkv::measure {

/// A format over all layers of a model; root mean squares of the two errors.
struct CapturedMeans {
  const CapturedFigures* worst = nullptr;  ///< the layer with the largest KL
  int layers = 0;
  double bits = 0, kl = 0, score_error = 0, output_error = 0, k_distortion = 0, v_distortion = 0;
};
/// Formats and precisions in the order of their first figures, which must outlive the result.
std::vector<CapturedMeans> means_of(const std::vector<CapturedFigures>& figures, const std::string& model);

}  // namespace tqkv::measure

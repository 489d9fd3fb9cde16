#include "measure/files/captured_means.h"

#include <algorithm>
#include <cmath>

namespace tqkv::measure {

std::vector<CapturedMeans> means_of(const std::vector<CapturedFigures>& figures, const std::string& model) {
  std::vector<CapturedMeans> all;
  for (const CapturedFigures& f : figures) {
    if (f.model != model) continue;
    auto found = std::find_if(all.begin(), all.end(), [&](const CapturedMeans& m) {
      return m.worst->format == f.format && m.worst->precision == f.precision;
    });
    if (found == all.end()) found = all.insert(all.end(), CapturedMeans{&f});
    ++found->layers;
    if (f.kl > found->worst->kl) found->worst = &f;
    found->bits += f.bits;
    found->kl += f.kl;
    found->score_error += f.score_error * f.score_error;
    found->output_error += f.output_error * f.output_error;
    found->k_distortion += f.k_distortion;
    found->v_distortion += f.v_distortion;
  }
  for (CapturedMeans& m : all) {
    const double count = m.layers;
    m.bits /= count;
    m.kl /= count;
    m.score_error = std::sqrt(m.score_error / count);
    m.output_error = std::sqrt(m.output_error / count);
    m.k_distortion /= count;
    m.v_distortion /= count;
  }
  return all;
}

}  // namespace tqkv::measure

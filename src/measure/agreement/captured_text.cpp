#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cache/names.h"
#include "measure/agreement/captured.h"
#include "measure/figures/number_text.h"
#include "measure/figures/text_table.h"
#include "measure/files/evaluation_fields.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

std::string error_text(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

}  // namespace

std::string to_json(const CapturedEvaluation& evaluation) {
  Json json =
      header_json("evaluation", evaluation, {{"captured", evaluation.text.file}, {"text", evaluation.text.text}});
  json["captured"] = JsonWriter::json_of(evaluation.figures);
  json["runs"] = Json::array();
  return file_text(json, 1);
}

std::string to_table(const CapturedEvaluation& evaluation) {
  std::vector<std::string> formats, models;
  for (const CapturedFigures& f : evaluation.figures) {
    formats.push_back(f.format);
    if (std::find(models.begin(), models.end(), f.model) == models.end()) models.push_back(f.model);
  }
  const auto names = cache::short_names(formats);
  std::vector<std::string> told;
  std::string out = fmt::format("{}\n{}\n", evaluation.text.file, evaluation.device.text());
  for (const std::string& format : formats) {
    if (std::find(told.begin(), told.end(), format) != told.end()) continue;
    told.push_back(format);
    if (names.at(format) != format) out += fmt::format("{} is {}\n", names.at(format), format);
  }
  for (const std::string& model : models) {
    std::vector<std::string> layers;
    for (const CapturedLayer& layer : evaluation.text.layers)
      if (layer.model == model) layers.push_back(std::to_string(layer.layer));
    out += fmt::format("\n{}: means over layers {}\n", model, listed(layers));
    TextTable table({"format", "bits", "KL of weights", "worst layer", "score, nats", "output", "D of K", "D of V"});
    for (const CapturedMeans& m : means_of(evaluation.figures, model)) {
      const CapturedFigures& f = *m.worst;
      table.add({names.at(f.format) + (f.precision == Precision::fast ? ", fast" : ""), bits_text(m.bits),
                 rounded(m.kl), fmt::format("{} ({})", rounded(f.kl), f.layer), rounded(m.score_error),
                 error_text(m.output_error), error_text(m.k_distortion), error_text(m.v_distortion)});
    }
    out += table.text("  ");
  }
  return out;
}

}  // namespace tqkv::measure

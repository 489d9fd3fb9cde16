#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cache/names.h"
#include "measure/agreement/captured.h"
#include "measure/figures/number_text.h"
#include "measure/figures/text_table.h"
#include "measure/files/machine.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

std::string models_of(const CapturedText& text) {
  std::vector<std::string> models;
  for (const CapturedLayer& layer : text.layers)
    if (std::find(models.begin(), models.end(), layer.model) == models.end()) models.push_back(layer.model);
  return listed(models);
}

std::string shape_of(const CapturedText& text) {
  std::vector<std::string> shapes;
  for (const CapturedLayer& layer : text.layers) {
    const std::string shape =
        fmt::format("{} heads, {} KV heads of {} channels", layer.heads, layer.kv_heads, layer.head_dim);
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) shapes.push_back(shape);
  }
  return listed(shapes);
}

Json json_of(const CapturedFigures& f) {
  return {{"model", f.model},
          {"layer", f.layer},
          {"window", f.window},
          {"queries", f.queries},
          {"precision", name(f.precision)},
          {"format", f.format},
          {"k", f.k},
          {"v", f.v},
          {"bits_per_value", f.bits},
          {"k_distortion", f.k_distortion},
          {"v_distortion", f.v_distortion},
          {"score_error", f.score_error},
          {"kl", f.kl},
          {"kl_se", f.kl_se},
          {"output_error", f.output_error}};
}

std::string error_text(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

}  // namespace

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

std::string to_json(const CapturedEvaluation& evaluation) {
  Json figures = Json::array();
  for (const CapturedFigures& one : evaluation.figures) figures.push_back(json_of(one));
  const Json json = {{"schema", 1},
                     {"kind", "evaluation"},
                     {"tool", {{"name", "tqkv"}, {"version", version}}},
                     {"command", evaluation.command},
                     {"model",
                      {{"name", models_of(evaluation.text)},
                       {"shape", shape_of(evaluation.text)},
                       {"fingerprint", evaluation.text.digest}}},
                     {"machine", machine_json(evaluation.device, evaluation.memory)},
                     {"settings", {{"captured", evaluation.text.file}, {"text", evaluation.text.text}}},
                     {"captured", figures},
                     {"runs", Json::array()}};
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
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

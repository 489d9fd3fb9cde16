// What the formats do to captured keys, values and queries: means over layers, then every layer.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "measure/figures/text_table.h"
#include "measure/files/captured_means.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

std::string error_text(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

}  // namespace

void add_captured(const ReportContext& context) {
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    if (evaluation.captured.empty()) continue;
    Section section;
    section.id = "captured";
    section.title = "Captured keys, values and queries" + context.of(evaluation);
    section.paragraphs.push_back(
        "Vectors of other models through the codecs and ranges of a session. KL is that of the attention weights, not "
        "of "
        "the next token; score errors are standard deviations under the exact weights.");
    std::vector<std::string> models;
    std::vector<CapturedFigures> figures;
    std::map<std::string, std::string> names;
    for (const CapturedEntry& entry : evaluation.captured) {
      figures.push_back(entry.figures);
      names[entry.figures.format] = entry.name;
      if (std::find(models.begin(), models.end(), entry.figures.model) == models.end())
        models.push_back(entry.figures.model);
    }
    Table means{"Means over layers",
                {{"model", Column::Kind::words},
                 {"format", Column::Kind::words},
                 {"precision", Column::Kind::words},
                 {"bits per value"},
                 {"layers"},
                 {"KL of weights, nats"},
                 {"score error, nats"},
                 {"output error"}},
                {}};
    for (const std::string& model : models) {
      for (const CapturedMeans& one : means_of(figures, model))
        means.rows.push_back({model, names.at(one.worst->format), std::string(name(one.worst->precision)),
                              bits_text(one.bits), std::to_string(one.layers), rounded(one.kl),
                              rounded(one.score_error), error_text(one.output_error)});
    }
    Table layers{"Layer by layer",
                 {{"model", Column::Kind::words},
                  {"layer"},
                  {"format", Column::Kind::words},
                  {"precision", Column::Kind::words},
                  {"bits per value"},
                  {"KL of weights, nats"},
                  {"score error, nats"},
                  {"output error"},
                  {"distortion of keys"},
                  {"distortion of values"}},
                 {}};
    for (const CapturedFigures& one : figures)
      layers.rows.push_back(
          {one.model, one.window > 0 ? fmt::format("{} (sees {})", one.layer, one.window) : std::to_string(one.layer),
           names.at(one.format), std::string(name(one.precision)), bits_text(one.bits), with_error(one.kl, one.kl_se),
           rounded(one.score_error), error_text(one.output_error), rounded(one.k_distortion),
           rounded(one.v_distortion)});
    section.tables.push_back(std::move(means));
    section.tables.push_back(std::move(layers));
    context.sections.push_back(std::move(section));
  }
}

}  // namespace tqkv::measure

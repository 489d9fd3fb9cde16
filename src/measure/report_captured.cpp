// What the formats do to captured keys, values and queries: means over layers, then every layer.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "measure/report_parts.h"
#include "measure/text_table.h"

namespace tqkv::measure {
namespace {

struct Sums {
  const CapturedEntry* first = nullptr;
  double kl = 0, score = 0, output = 0;
  int layers = 0;
};

// A model's formats in their order, each over all of its layers.
std::vector<Sums> sums_of(const std::vector<CapturedEntry>& entries, const std::string& model) {
  std::vector<Sums> all;
  for (const CapturedEntry& entry : entries) {
    if (entry.model != model) continue;
    auto found = std::find_if(all.begin(), all.end(), [&](const Sums& sums) {
      return sums.first->format == entry.format && sums.first->precision == entry.precision;
    });
    if (found == all.end()) found = all.insert(all.end(), Sums{&entry});
    found->kl += entry.kl;
    found->score += entry.score_error * entry.score_error;
    found->output += entry.output_error * entry.output_error;
    ++found->layers;
  }
  return all;
}

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
    for (const CapturedEntry& entry : evaluation.captured)
      if (std::find(models.begin(), models.end(), entry.model) == models.end()) models.push_back(entry.model);
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
      for (const Sums& sums : sums_of(evaluation.captured, model)) {
        const double count = sums.layers;
        means.rows.push_back({model, sums.first->name, sums.first->precision, bits_text(sums.first->bits),
                              std::to_string(sums.layers), rounded(sums.kl / count),
                              rounded(std::sqrt(sums.score / count)), error_text(std::sqrt(sums.output / count))});
      }
    }
    Table layers{"Layer by layer",
                 {{"model", Column::Kind::words},
                  {"layer"},
                  {"format", Column::Kind::words},
                  {"precision", Column::Kind::words},
                  {"KL of weights, nats"},
                  {"score error, nats"},
                  {"output error"},
                  {"distortion of keys"},
                  {"distortion of values"}},
                 {}};
    for (const CapturedEntry& entry : evaluation.captured)
      layers.rows.push_back(
          {entry.model,
           entry.window > 0 ? fmt::format("{} (sees {})", entry.layer, entry.window) : std::to_string(entry.layer),
           entry.name, entry.precision, with_error(entry.kl, entry.kl_se), rounded(entry.score_error),
           error_text(entry.output_error), rounded(entry.k_distortion), rounded(entry.v_distortion)});
    section.tables.push_back(std::move(means));
    section.tables.push_back(std::move(layers));
    context.sections.push_back(std::move(section));
  }
}

}  // namespace tqkv::measure

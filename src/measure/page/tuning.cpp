// What tqkv tune chose, and what each side of each layer costs alone.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "measure/figures/text_table.h"
#include "measure/files/tuning_fields.h"
#include "measure/page/parts.h"
#include "measure/page/read.h"

namespace tqkv::measure {

TuningData read_tuning(const MeasuredFile& file) {
  const JsonObject settings = file.settings();
  TuningData data;
  data.file = settings.file();
  take<TuningFigures>(file.top(), data);
  if (!data.finished) refuse_file(data.file, "is of a tuning that is not finished");
  data.model = file.measured().model;
  data.text = settings.text_or("text", "");
  data.tokens = settings.count("tokens");
  data.held_out_tokens = settings.count("held_out_tokens");
  for (const std::string& format : data.compared) {
    const auto found = std::find_if(data.measurements.begin(), data.measurements.end(),
                                    [&](const TuneMeasurement& one) { return one.held_out && one.format == format; });
    if (found == data.measurements.end())
      refuse_file(data.file, fmt::format("compares {}, which was not measured on the held-out text", format));
    data.on_held_out.push_back(*found);
  }
  return data;
}

void add_tunings(const ReportContext& context) {
  for (const TuningData& tuning : context.data.tunings) {
    Section section;
    section.id = "tuning";
    section.title = "Tuned format" + (context.data.tunings.size() > 1 ? " of " + tuning.file : std::string());
    section.paragraphs.push_back(fmt::format(
        "Chosen on {} tokens of {}, checked on {} others: {}. It takes {} bytes per token (default: {}), and {} for "
        "plain "
        "tokens and means. Its sides alone add up to a KL of {}.",
        tuning.tokens, tuning.text.empty() ? "a text" : tuning.text, tuning.held_out_tokens, tuning.chosen,
        tuning.bytes_per_token, tuning.default_bytes_per_token, tuning.fixed_bytes, rounded(tuning.predicted_kl)));
    if (!tuning.goal_reached)
      section.paragraphs.push_back("No format that was tried reaches the KL that was asked for. This one is nearest.");
    Table compared{"On the held-out text",
                   {{"format", Column::Kind::long_words}, {"mean KL, nats"}, {"same top"}, {"perplexity, ratio"}},
                   {}};
    for (const TuneMeasurement& one : tuning.on_held_out)
      compared.rows.push_back({one.format + (one.format == tuning.chosen ? " (chosen)" : ""),
                               with_error(one.kl, one.kl_se), percent(one.same_top), fmt::format("{:.4f}", one.ratio)});
    std::set<int> bits;
    for (const TuneSide& side : tuning.sides)
      for (const TuneSide::Point& point : side.points) bits.insert(point.bits);
    Table sides{"KL of one side alone, nats", {{"layer"}, {"side", Column::Kind::words}}, {}};
    for (const int count : bits) sides.columns.push_back({fmt::format("{} bits", count), Column::Kind::number});
    for (const TuneSide& side : tuning.sides) {
      std::vector<std::string> row{std::to_string(side.layer), side.keys ? "keys" : "values"};
      for (const int count : bits) {
        const auto found = std::find_if(side.points.begin(), side.points.end(),
                                        [&](const auto& point) { return point.bits == count; });
        row.push_back(found == side.points.end() ? "–" : rounded(found->kl));
      }
      sides.rows.push_back(std::move(row));
    }
    section.tables.push_back(std::move(compared));
    section.tables.push_back(std::move(sides));
    context.sections.push_back(std::move(section));
  }
}

}  // namespace tqkv::measure

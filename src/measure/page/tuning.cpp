// What tqkv tune chose, and what each side of each layer costs alone.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "measure/figures/text_table.h"
#include "measure/page/parts.h"
#include "measure/page/read.h"

namespace tqkv::measure {

TuningData read_tuning(const JsonObject& top, const Source& source) {
  if (!top.truth_or("finished", false)) refuse_file(source.file, "is of a tuning that is not finished");
  constexpr double most = 1e6;
  const JsonObject settings = top.object("settings"), chosen = top.object("chosen");
  TuningData data;
  data.file = source.file;
  data.model = source.model;
  data.text = settings.text_or("text", "");
  data.tokens = settings.count("tokens");
  data.held_out_tokens = settings.count("held_out_tokens");
  data.chosen = chosen.text("format");
  data.goal_reached = chosen.truth_or("goal_reached", true);
  data.predicted_kl = chosen.number("predicted_kl", 0, most);
  data.bytes_per_token = chosen.count("bytes_per_token");
  data.default_bytes_per_token = chosen.count("default_bytes_per_token");
  data.fixed_bytes = chosen.count("fixed_bytes");
  for (const JsonObject& one : top.objects("sides")) {
    TuningData::Side side{one.count("layer", 1 << 20), one.text("side"), {}};
    for (const JsonObject& point : one.objects("points"))
      side.kl.emplace_back(point.count("bits", 32), point.number("kl", 0, most));
    data.sides.push_back(std::move(side));
  }
  const std::vector<JsonObject> measurements = top.objects("measurements");
  for (const std::string& format : top.texts_or_none("compared")) {
    const auto found = std::find_if(measurements.begin(), measurements.end(), [&](const JsonObject& one) {
      return one.truth_or("held_out", false) && one.text("format") == format;
    });
    if (found == measurements.end())
      refuse_file(source.file, fmt::format("compares {}, which was not measured on the held-out text", format));
    data.compared.push_back({format, found->number("kl", 0, most), found->number("same_top", 0, 1),
                             found->number("ratio", 0, most), found->number_or_none("kl_se", 0, most)});
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
    for (const TuningData::Compared& one : tuning.compared)
      compared.rows.push_back({one.format + (one.format == tuning.chosen ? " (chosen)" : ""),
                               with_error(one.kl, one.kl_se), percent(one.same_top), fmt::format("{:.4f}", one.ratio)});
    std::set<std::uint64_t> bits;
    for (const TuningData::Side& side : tuning.sides)
      for (const auto& [count, kl] : side.kl) bits.insert(count);
    Table sides{"KL of one side alone, nats", {{"layer"}, {"side", Column::Kind::words}}, {}};
    for (const std::uint64_t count : bits)
      sides.columns.push_back({fmt::format("{} bits", count), Column::Kind::number});
    for (const TuningData::Side& side : tuning.sides) {
      std::vector<std::string> row{std::to_string(side.layer), side.side == "k" ? "keys" : "values"};
      for (const std::uint64_t count : bits) {
        const auto found =
            std::find_if(side.kl.begin(), side.kl.end(), [&](const auto& point) { return point.first == count; });
        row.push_back(found == side.kl.end() ? "–" : rounded(found->second));
      }
      sides.rows.push_back(std::move(row));
    }
    section.tables.push_back(std::move(compared));
    section.tables.push_back(std::move(sides));
    context.sections.push_back(std::move(section));
  }
}

}  // namespace tqkv::measure

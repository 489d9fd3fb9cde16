// Distortion of the codecs alone, beside what theory allows.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "measure/figures/text_table.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

using Entries = std::vector<const CodecEntry*>;

// A bound over bits, from those entries that name it.
std::vector<std::pair<double, double>> bound_of(const Entries& entries, std::optional<double> CodecFigures::*bound) {
  std::map<double, double> points;
  for (const CodecEntry* entry : entries) {
    if (const std::optional<double>& value = entry->*bound; value && *value > 0)
      points.emplace(entry->bits_per_value, *value);
  }
  return {points.begin(), points.end()};
}

Drawing draw(const Entries& entries, const Styles& styles, const std::string& input) {
  double least = 64, most = 0, low = 1e300, high = 0;
  const auto take = [&](double value) {
    if (!(value > 0)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  };
  const auto lower = bound_of(entries, &CodecFigures::lower), upper = bound_of(entries, &CodecFigures::upper);
  for (const CodecEntry* entry : entries) {
    least = std::min(least, entry->bits_per_value);
    most = std::max(most, entry->bits_per_value);
    take(entry->distortion);
  }
  for (const auto& [bits, value] : lower) take(value);
  for (const auto& [bits, value] : upper) take(value);
  if (!(high > 0)) low = high = 1;
  const double margin = std::max(0.08 * (most - least), 0.25);
  const Panel panel{
      58, 30, figure_width - 58 - 14, 250, Scale::linear(least - margin, most + margin), Scale::logarithmic(low, high)};
  Canvas canvas;
  draw_up_axis(canvas, panel, "distortion: mean squared error of a unit vector", 8);
  draw_across_axis(canvas, panel, "stored bits per value", 9);
  const auto line = [&](const std::vector<std::pair<double, double>>& bound, std::string_view dash,
                        std::string_view name) {
    std::vector<std::pair<double, double>> points;
    points.reserve(bound.size());
    for (const auto& [bits, value] : bound) points.emplace_back(panel.at_x(bits), panel.at_y(value));
    canvas.polyline(points, {paints::faint, 1.6, dash});
    if (points.empty()) return;
    const double x = points.back().first;
    canvas.text(std::min(x, panel.x + panel.width - 4), points.back().second - 7, name, Anchor::end, paints::faint,
                11.5);
  };
  line(upper, "6 3", "upper bound");
  line(lower, "2 3", "lower bound");
  std::vector<std::string> formats, names, described;
  for (const CodecEntry* entry : entries) {
    const double x = panel.at_x(entry->bits_per_value), error = entry->distortion_se;
    if (entry->distortion > 0) {
      if (error > 0)
        canvas.whisker(x, panel.at_y(entry->distortion + error), panel.at_y(entry->distortion - error),
                       series_paint(styles.of(entry->format)));
      canvas.mark(x, panel.at_y(entry->distortion), styles.of(entry->format));
    }
    formats.push_back(entry->format);
    names.push_back(entry->name);
    described.push_back(fmt::format("{} {}", entry->name, rounded(entry->distortion)));
  }
  const double used = panel.y + panel.height + 46;
  Drawing drawing;
  drawing.id = "codec-" + slug(input);
  drawing.title = "Distortion against bits, input: " + input;
  drawing.description = fmt::format(
      "A mark for each codec, bits per value across and distortion upwards on a logarithmic axis{}. Distortions: {}. "
      "The "
      "table next to the figure has every number.",
      lower.empty() && upper.empty() ? "" : "; dashed lines are the bounds of theory", listed(described));
  drawing.width = figure_width;
  drawing.height = used + draw_format_legend(canvas, used, styles, formats, names);
  drawing.body = canvas.body();
  return drawing;
}

}  // namespace

void add_codec(const ReportContext& context) {
  bool any = false;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    if (evaluation.codec.empty()) continue;
    any = true;
    Section section;
    section.id = "codec";
    section.title = "The codecs alone" + context.of(evaluation);
    section.paragraphs.push_back(
        "Distortion of single vectors without a model, next to the theoretical bounds; ± is one standard error.");
    Table table{"Codecs by input",
                {{"input", Column::Kind::words},
                 {"format", Column::Kind::words},
                 {"side", Column::Kind::words},
                 {"bits per value"},
                 {"distortion"},
                 {"lower bound"},
                 {"upper bound"},
                 {"bias of scores"},
                 {"variance of scores"}},
                {}};
    std::vector<std::string> inputs;
    for (const CodecEntry& entry : evaluation.codec) {
      if (std::find(inputs.begin(), inputs.end(), entry.input) == inputs.end()) inputs.push_back(entry.input);
    }
    for (const std::string& input : inputs) {
      Entries entries;
      for (const CodecEntry& entry : evaluation.codec) {
        if (entry.input == input) entries.push_back(&entry);
      }
      section.drawings.push_back(draw(entries, context.styles, input));
      const auto number = [](const std::optional<double>& value) { return value ? rounded(*value) : std::string("–"); };
      for (const CodecEntry* entry : entries)
        table.rows.push_back({input, entry->name, entry->side, bits_text(entry->bits_per_value),
                              with_error(entry->distortion, entry->distortion_se), number(entry->lower),
                              number(entry->upper), with_error(entry->bias, entry->bias_se),
                              rounded(entry->score_variance)});
    }
    section.tables.push_back(std::move(table));
    context.sections.push_back(std::move(section));
  }
  if (!any) context.left_out.push_back("the codecs alone: no file contains figures of them");
}

}  // namespace tqkv::measure

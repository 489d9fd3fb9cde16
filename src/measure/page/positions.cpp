// KL by the position in the text.
#include <fmt/format.h>

#include <algorithm>

#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

using Range = std::pair<int, int>;

std::string range_text(const Range& range) {
  return fmt::format("{}–{}", tokens_text(range.first), tokens_text(range.second));
}

std::vector<Range> ranges_of(const std::vector<const QualityRun*>& runs) {
  std::vector<Range> ranges;
  for (const QualityRun* run : runs) {
    for (const PositionBucket& bucket : run->agreement->by_position) ranges.emplace_back(bucket.from, bucket.to);
  }
  std::sort(ranges.begin(), ranges.end());
  ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
  return ranges;
}

const AgreementPart* figures_at(const QualityRun& run, const Range& range) {
  for (const PositionBucket& bucket : run.agreement->by_position) {
    if (Range{bucket.from, bucket.to} == range) return &bucket.part;
  }
  return nullptr;
}

Table table_of(const std::vector<const QualityRun*>& runs, const std::vector<Range>& ranges) {
  Table table{"Mean KL by position, nats", {{"format", Column::Kind::words}}, {}};
  for (const Range& range : ranges) table.columns.push_back({range_text(range) + " tokens"});
  table.columns.push_back({"at prefill"});
  table.columns.push_back({"at decode"});
  const auto cell = [](const AgreementPart* figures) {
    return figures == nullptr ? std::string("–") : with_error(figures->kl.mean, figures->kl.se);
  };
  for (const QualityRun* run : runs) {
    std::vector<std::string> row = {run->name};
    for (const Range& range : ranges) row.push_back(cell(figures_at(*run, range)));
    row.push_back(cell(run->agreement->prefill ? &*run->agreement->prefill : nullptr));
    row.push_back(cell(run->agreement->decode ? &*run->agreement->decode : nullptr));
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

void add_positions(const ReportContext& context) {
  bool any = false;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    for (const std::string& precision : precisions_of(evaluation)) {
      const std::vector<const QualityRun*> runs = agreement_runs(evaluation, precision);
      const std::vector<Range> ranges = ranges_of(runs);
      if (ranges.empty()) continue;
      LineChart chart;
      chart.up_title = "mean KL, nats";
      chart.across_title = "position in the text, tokens";
      chart.logarithmic = true;
      for (const Range& range : ranges) chart.categories.push_back(range_text(range));
      std::vector<std::string> grows;
      for (const QualityRun* run : runs) {
        Series series{run->name, backend_of(run->format), context.styles.of(run->format), {}};
        for (const Range& range : ranges) {
          const AgreementPart* figures = figures_at(*run, range);
          if (figures == nullptr) {
            series.points.emplace_back();
            continue;
          }
          const double error = figures->kl.se.value_or(0);
          series.points.push_back(SeriesPoint{figures->kl.mean, figures->kl.mean - error, figures->kl.mean + error});
        }
        const bool shown = std::any_of(series.points.begin(), series.points.end(),
                                       [](const auto& point) { return point && point->value > 0; });
        if (shown) chart.series.push_back(std::move(series));
      }
      if (chart.series.empty()) continue;
      any = true;
      for (const Series& series : chart.series) {
        const auto &first = series.points.front(), &last = series.points.back();
        if (first && last && series.points.size() > 1 && first->value > 0)
          grows.push_back(fmt::format("{} {} times", series.name, times_text(last->value / first->value)));
      }
      Canvas canvas;
      Drawing drawing;
      drawing.id = "position-" + slug(precision);
      drawing.title = fmt::format("Mean KL by position, {} precision", precision);
      drawing.description = fmt::format(
          "A line for each of {} formats over {} ranges of positions, mean KL upwards on a logarithmic axis.{} The "
          "table "
          "next to the figure has every number.",
          chart.series.size(), ranges.size(),
          grows.empty() ? "" : " The last range against the first: " + listed(grows) + ".");
      drawing.width = figure_width;
      drawing.height = draw_line_chart(canvas, 4, chart) + 4;
      drawing.body = canvas.body();
      Section section;
      section.id = drawing.id;
      section.title = fmt::format("KL by position, {} precision{}", precision, context.of(evaluation));
      section.paragraphs.push_back(
          evaluation.decode_from > 0
              ? fmt::format("Bars are one standard error. From token {} on, the text was fed token by token.",
                            tokens_text(evaluation.decode_from))
              : std::string("Bars are one standard error."));
      section.drawings.push_back(std::move(drawing));
      section.tables.push_back(table_of(runs, ranges));
      context.sections.push_back(std::move(section));
    }
  }
  if (!any) context.left_out.push_back("KL by position: no file contains it");
}

}  // namespace tqkv::measure

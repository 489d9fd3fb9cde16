// Quality against bits: the figure that a choice of format starts from.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "measure/figures/text_table.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

bool equal_in_size(const QualityRun& run, const QualityRun& rival) {
  return std::abs(rival.bits() - run.bits()) <= equal_bits + 1e-9;
}

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

// The names of some runs beside their marks, where there is room; the rest is left to legend and table.
void draw_names(Canvas& canvas, const Panel& panel, const std::vector<const QualityRun*>& runs,
                const std::vector<std::size_t>& named) {
  constexpr double size = 11;
  std::vector<Box> taken;
  for (const QualityRun* run : runs) {
    const double x = panel.at_x(run->bits()), y = panel.at_y(run->agreement->all.kl.mean);
    taken.push_back({x - 6, y - 6, x + 6, y + 6});
  }
  for (const std::size_t index : named) {
    const QualityRun* run = runs[index];
    const double x = panel.at_x(run->bits()), y = panel.at_y(run->agreement->all.kl.mean);
    const double width = text_width(run->name, size);
    const Box places[] = {{x + 8, y - 6, x + 8 + width, y + 6},
                          {x - 8 - width, y - 6, x - 8, y + 6},
                          {x - width / 2, y - 20, x + width / 2, y - 8},
                          {x - width / 2, y + 8, x + width / 2, y + 20}};
    for (const Box& place : places) {
      const bool inside = place.left >= panel.x && place.right <= panel.x + panel.width && place.top >= panel.y &&
                          place.bottom <= panel.y + panel.height;
      if (!inside || std::any_of(taken.begin(), taken.end(), [&](const Box& box) { return box.meets(place); }))
        continue;
      canvas.label(place.left, place.bottom - 2, run->name, Anchor::start, paints::ink, size);
      taken.push_back(place);
      break;
    }
  }
}

struct Chart {
  std::vector<const QualityRun*> runs;      // with a mark: those of compressed caches with a mean KL above 0
  std::vector<const QualityRun*> unmarked;  // the others
  std::vector<Level> levels;                // noise
  std::vector<std::size_t> front;           // indices of runs
};

Chart chart_of(const EvaluationGroup& evaluation, const std::string& precision) {
  Chart chart;
  std::vector<RatePoint> points;
  for (const QualityRun* run : agreement_runs(evaluation, precision)) {
    const double kl = run->agreement->all.kl.mean;
    if (run->baseline() || !(kl > 0)) {
      chart.unmarked.push_back(run);
      continue;
    }
    chart.runs.push_back(run);
    points.push_back({run->bits(), kl});
  }
  for (const NoiseFloor& noise : evaluation.noise) {
    if (noise.agreement.all.kl.mean > 0) chart.levels.push_back({noise.name, noise.agreement.all.kl.mean});
  }
  chart.front = pareto_front(points);
  return chart;
}

// Bottom and top of the axis: the marks, and the noise that lies near them.
Scale scale_of(const Chart& chart) {
  double low = 1e300, high = 0;
  for (const QualityRun* run : chart.runs) {
    const AgreementPart& figures = run->agreement->all;
    const double error = figures.kl.se.value_or(0);
    low = std::min(low, std::max(figures.kl.mean - error, figures.kl.mean / 2));
    high = std::max(high, figures.kl.mean + error);
  }
  double bottom = low, top = high;
  for (const Level& level : chart.levels) {
    if (level.value < low / 30 || level.value > high * 10) continue;
    bottom = std::min(bottom, level.value);
    top = std::max(top, level.value);
  }
  return Scale::logarithmic(bottom, top);
}

Drawing draw(const Chart& chart, const Styles& styles, const std::string& precision) {
  double least = 64, most = 0;
  for (const QualityRun* run : chart.runs) {
    least = std::min(least, run->bits());
    most = std::max(most, run->bits());
  }
  const double margin = std::max(0.08 * (most - least), 0.25);
  Panel panel{58, 30, figure_width - 58 - 14, 300, Scale::linear(least - margin, most + margin), scale_of(chart)};
  Canvas canvas;
  draw_up_axis(canvas, panel, "mean KL to the uncompressed cache, nats", 9);
  draw_across_axis(canvas, panel, "stored bits per value", 9);
  draw_levels(canvas, panel, chart.levels);

  // What is the best that a number of bits buys: steps from mark to mark.
  std::vector<std::pair<double, double>> steps;
  for (const std::size_t index : chart.front) {
    const QualityRun& run = *chart.runs[index];
    const double x = panel.at_x(run.bits()), y = panel.at_y(run.agreement->all.kl.mean);
    if (!steps.empty()) steps.emplace_back(x, steps.back().second);
    steps.emplace_back(x, y);
  }
  if (!steps.empty()) steps.emplace_back(panel.x + panel.width, steps.back().second);
  canvas.polyline(steps, {paints::faint, 4, {}, 0.35});

  for (const QualityRun* run : chart.runs) {
    const QualityRun* rival = best_rival(chart.runs, *run, equal_in_size);
    if (rival == nullptr) continue;
    canvas.line(panel.at_x(run->bits()), panel.at_y(run->agreement->all.kl.mean), panel.at_x(rival->bits()),
                panel.at_y(rival->agreement->all.kl.mean), {paints::ink, 1.1, "1 3"});
  }
  std::vector<std::string> formats, names;
  for (const QualityRun* run : chart.runs) {
    const AgreementPart& figures = run->agreement->all;
    const double x = panel.at_x(run->bits()), error = figures.kl.se.value_or(0);
    if (error > 0)
      canvas.whisker(x, panel.at_y(figures.kl.mean + error), panel.at_y(figures.kl.mean - error),
                     series_paint(styles.of(run->format)));
    formats.push_back(run->format);
    names.push_back(run->name);
  }
  for (const QualityRun* run : chart.runs)
    canvas.mark(panel.at_x(run->bits()), panel.at_y(run->agreement->all.kl.mean), styles.of(run->format), 10);
  if (!styles.by_format()) draw_names(canvas, panel, chart.runs, chart.front);
  const double used = panel.y + panel.height + 46;
  const double legend = draw_format_legend(canvas, used, styles, formats, names);

  std::vector<std::string> best;
  for (const std::size_t index : chart.front)
    best.push_back(fmt::format("{} with {} bits and {} nats", chart.runs[index]->name,
                               bits_text(chart.runs[index]->bits()),
                               rounded(chart.runs[index]->agreement->all.kl.mean)));
  Drawing drawing;
  drawing.id = "quality-" + slug(precision);
  drawing.title = fmt::format("Mean KL against stored bits per value, {} precision", precision);
  drawing.description = fmt::format(
      "One mark for each of {} formats, bits per value across and mean KL upwards on a logarithmic axis, lower is "
      "better. "
      "On the Pareto front: {}. The table next to the figure has every number.",
      chart.runs.size(), listed(best));
  drawing.width = figure_width;
  drawing.height = used + legend;
  drawing.body = canvas.body();
  return drawing;
}

Table table_of(const Chart& chart) {
  using Kind = Column::Kind;
  Table table{"Quality against bits",
              {{"format", Kind::words},
               {"bits per value"},
               {"mean KL, nats"},
               {"on the front", Kind::words},
               {"best rival within 0.1 bit", Kind::words},
               {"KL against its"}},
              {}};
  for (std::size_t i = 0; i < chart.runs.size(); ++i) {
    const QualityRun& run = *chart.runs[i];
    const AgreementPart& figures = run.agreement->all;
    const QualityRun* rival = best_rival(chart.runs, run, equal_in_size);
    const bool front = std::find(chart.front.begin(), chart.front.end(), i) != chart.front.end();
    std::vector<std::string> row = {run.name, bits_text(run.bits()), with_error(figures.kl.mean, figures.kl.se),
                                    front ? "yes" : "no"};
    if (rival == nullptr) {
      row.insert(row.end(), {"none", "–"});
    } else {
      row.push_back(rival->name);
      row.push_back(times_text(figures.kl.mean / rival->agreement->all.kl.mean) + "x");
    }
    table.rows.push_back(std::move(row));
  }
  for (const QualityRun* run : chart.unmarked) {
    const AgreementPart& figures = run->agreement->all;
    table.rows.push_back(
        {run->name, bits_text(run->bits()), with_error(figures.kl.mean, figures.kl.se), "–", "–", "–"});
  }
  return table;
}

Table noise_table(const EvaluationGroup& evaluation) {
  Table table{"Noise floors: two runs without compression",
              {{"what differs", Column::Kind::words}, {"mean KL, nats"}, {"KL p99, nats"}, {"same top token"}},
              {}};
  for (const NoiseFloor& noise : evaluation.noise)
    table.rows.push_back({noise.name, with_error(noise.agreement.all.kl.mean, noise.agreement.all.kl.se),
                          rounded(noise.agreement.all.kl.p99), percent(noise.agreement.all.same_top)});
  return table;
}

}  // namespace

void add_quality(const ReportContext& context) {
  bool any = false;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    for (const std::string& precision : precisions_of(evaluation)) {
      const Chart chart = chart_of(evaluation, precision);
      if (chart.runs.empty()) continue;
      any = true;
      Section section;
      section.id = "quality-" + slug(precision);
      section.title = fmt::format("Quality against bits, {} precision{}", precision, context.of(evaluation));
      section.paragraphs.push_back(
          fmt::format("Each mark is a format; bars are one standard error, lower is better. The grey steps are the "
                      "Pareto front: the "
                      "least KL that so many bits buy. Dotted links join a format to its best rival within {} bit.",
                      equal_bits));
      std::vector<std::string> outside;
      const Scale scale = scale_of(chart);
      for (const Level& level : chart.levels) {
        if (!scale.contains(level.value))
          outside.push_back(fmt::format("{} ({} nats)", level.name, rounded(level.value)));
      }
      if (!chart.levels.empty())
        section.paragraphs.push_back("Dashed lines across are noise floors: two runs without compression.");
      if (!outside.empty()) section.paragraphs.push_back("Outside the axis: the noise of " + listed(outside) + ".");
      std::vector<std::string> unmarked;
      for (const QualityRun* run : chart.unmarked)
        unmarked.push_back(fmt::format("{} ({} bits, {} nats)", run->name, bits_text(run->bits()),
                                       rounded(run->agreement->all.kl.mean)));
      if (!unmarked.empty()) section.paragraphs.push_back("Without a mark: " + listed(unmarked) + ".");
      section.drawings.push_back(draw(chart, context.styles, precision));
      section.tables.push_back(table_of(chart));
      if (!evaluation.noise.empty()) section.tables.push_back(noise_table(evaluation));
      context.sections.push_back(std::move(section));
    }
  }
  if (!any) context.left_out.push_back("quality against bits: no file contains the agreement of a compressed cache");
}

}  // namespace tqkv::measure

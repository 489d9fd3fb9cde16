#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "measure/figures/text_table.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

constexpr double left_margin = 58, right_margin = 14;
constexpr std::string_view dashes[] = {"", "7 3", "2 3", "9 3 2 3"};

std::optional<SeriesPoint> shown(const std::optional<SeriesPoint>& point, bool logarithmic) {
  if (!point || (logarithmic && !(point->value > 0))) return std::nullopt;
  return point;
}

Scale scale_of(const LineChart& chart) {
  double low = 0, high = 0;
  bool any = false;
  const auto take = [&](double value) {
    low = any ? std::min(low, value) : value;
    high = any ? std::max(high, value) : value;
    any = true;
  };
  for (const Series& series : chart.series) {
    for (const auto& point : series.points) {
      const auto there = shown(point, chart.logarithmic);
      if (!there) continue;
      take(there->value);
      take(there->high);
      if (!chart.logarithmic || there->low > 0)
        take(chart.logarithmic ? std::max(there->low, there->value / 10) : there->low);
    }
  }
  for (const Level& level : chart.levels) {
    if (!chart.logarithmic || level.value > 0) take(level.value);
  }
  if (!any) return chart.logarithmic ? Scale::logarithmic(1, 10) : Scale::linear(0, 1);
  if (chart.logarithmic) return Scale::logarithmic(low, high);
  return Scale::linear(chart.from_zero ? std::min(0.0, low) : low - 0.05 * (high - low), high + 0.06 * (high - low));
}

void draw_series(Canvas& canvas, const Panel& panel, const LineChart& chart, const std::vector<const Series*>& chosen,
                 bool faded, bool own_styles) {
  const std::size_t count = chart.categories.size();
  // Marks of one category stand side by side, so that their whiskers can be told apart.
  const double room = panel.width / static_cast<double>(std::max<std::size_t>(count, 1));
  const double step =
      faded ? 0 : std::min(7.0, 0.6 * room / static_cast<double>(std::max<std::size_t>(chosen.size(), 1)));
  for (std::size_t s = 0; s < chosen.size(); ++s) {
    const Series& series = *chosen[s];
    const int style = own_styles ? static_cast<int>(s) : series.style;
    const Paint paint = faded ? paints::grid : series_paint(style);
    const double shift = step * (static_cast<double>(s) - 0.5 * static_cast<double>(chosen.size() - 1));
    std::vector<std::pair<double, double>> line;
    const Stroke stroke{paint, faded ? 1.2 : 1.8,
                        faded ? std::string_view() : dashes[static_cast<std::size_t>(style) % std::size(dashes)]};
    const auto finish = [&] {
      canvas.polyline(line, stroke);
      line.clear();
    };
    for (std::size_t i = 0; i < count && i < series.points.size(); ++i) {
      const auto point = shown(series.points[i], chart.logarithmic);
      if (!point) {
        finish();
        continue;
      }
      const double x = category_x(panel, i, count) + shift, y = panel.at_y(point->value);
      line.emplace_back(x, y);
      if (!faded && point->low < point->high) canvas.whisker(x, panel.at_y(point->high), panel.at_y(point->low), paint);
    }
    finish();
    if (faded) continue;
    for (std::size_t i = 0; i < count && i < series.points.size(); ++i) {
      if (const auto point = shown(series.points[i], chart.logarithmic))
        canvas.mark(category_x(panel, i, count) + shift, panel.at_y(point->value), style);
    }
  }
}

double draw_one_panel(Canvas& canvas, double y, const LineChart& chart, const Scale& up, std::string_view title,
                      double height, const std::vector<const Series*>& chosen, const std::vector<const Series*>& behind,
                      bool own_styles) {
  Panel panel{left_margin, y + 26, figure_width - left_margin - right_margin, height, Scale::linear(0, 1), up};
  draw_up_axis(canvas, panel, title);
  draw_categories(canvas, panel, chart.categories, chart.across_title);
  draw_series(canvas, panel, chart, behind, true, false);
  draw_levels(canvas, panel, chart.levels);
  draw_series(canvas, panel, chart, chosen, false, own_styles);
  std::vector<LegendEntry> legend;
  for (std::size_t s = 0; s < chosen.size(); ++s)
    legend.push_back({chosen[s]->name, own_styles ? static_cast<int>(s) : chosen[s]->style});
  const double used = 26 + height + (chart.across_title.empty() ? 28 : 46);
  return used + draw_legend(canvas, left_margin, y + used, figure_width - left_margin, legend) + 10;
}

}  // namespace

void draw_levels(Canvas& canvas, const Panel& panel, const std::vector<Level>& levels) {
  std::vector<const Level*> sorted;
  for (const Level& level : levels) {
    if (panel.up.contains(level.value)) sorted.push_back(&level);
  }
  std::sort(sorted.begin(), sorted.end(), [](const Level* a, const Level* b) { return a->value < b->value; });
  double free_below = panel.y + panel.height + 20;  // baseline that the next name must not reach
  for (const Level* level : sorted) {
    const double y = panel.at_y(level->value);
    canvas.line(panel.x, y, panel.x + panel.width, y, {paints::faint, 1.2, "7 4"});
    const double baseline = std::max(std::min(y - 4, free_below - 14), panel.y + 11);
    canvas.label(panel.x + panel.width - 2, baseline, shortened(level->name, panel.width - 4, 11.5), Anchor::end,
                 paints::faint, 11.5);
    free_below = baseline;
  }
}

double draw_line_chart(Canvas& canvas, double y, const LineChart& chart) {
  const Scale up = scale_of(chart);
  std::vector<const Series*> all;
  for (const Series& series : chart.series) all.push_back(&series);
  if (all.size() <= static_cast<std::size_t>(series_count))
    return draw_one_panel(canvas, y, chart, up, chart.up_title, 250, all, {}, false);
  std::vector<std::string> groups;
  for (const Series* series : all) {
    if (std::find(groups.begin(), groups.end(), series->group) == groups.end()) groups.push_back(series->group);
  }
  const double top = y;
  const auto add_panel = [&](const std::string& name, bool own_styles, const auto& is_chosen) {
    std::vector<const Series*> chosen, behind;
    for (const Series* series : all) (is_chosen(*series) ? chosen : behind).push_back(series);
    if (!chosen.empty())
      y += draw_one_panel(canvas, y, chart, up, shortened(name, 200, 13) + ": " + chart.up_title, 130, chosen, behind,
                          own_styles);
  };
  const auto size_of = [&](const std::string& group) {
    return std::count_if(all.begin(), all.end(), [&](const Series* series) { return series->group == group; });
  };
  for (const std::string& group : groups) {
    if (size_of(group) > 1) add_panel(group, true, [&](const Series& series) { return series.group == group; });
  }
  add_panel("the others", false, [&](const Series& series) { return size_of(series.group) == 1; });
  return y - top;
}

double draw_bars(Canvas& canvas, double y, std::string_view title, const std::vector<Bar>& bars, bool dots) {
  double label = 60, text = 0, low = dots ? 1 : 0, high = dots ? 1 : 0;
  for (const Bar& bar : bars) {
    label = std::max(label, text_width(bar.name, 12) + 12);
    text = std::max(text, text_width(bar.text, 12) + 12);
    low = std::min(low, bar.point.low);
    high = std::max(high, bar.point.high);
  }
  label = std::min(label, 190.0);
  const double row = bars.size() > 16 ? 17 : 21;
  const double room = std::max(120.0, figure_width - 4 - label - text);
  if (dots) {
    const double margin = std::max(0.05 * (high - low), 0.02);
    low -= margin;
    high += margin;
  }
  Panel panel{4 + label,
              y + 28,
              room,
              row * static_cast<double>(bars.size()) + 6,
              Scale::linear(low, high * (dots ? 1 : 1.02)),
              Scale::linear(0, 1)};
  canvas.text(4, y + 14, title);
  draw_across_axis(canvas, panel, "", 5);
  if (dots) canvas.line(panel.at_x(1), panel.y, panel.at_x(1), panel.y + panel.height, {paints::faint, 1.2, "4 3"});
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double middle = panel.y + 3 + row * (static_cast<double>(i) + 0.5), x = panel.at_x(bar.point.value);
    canvas.text(panel.x - 8, middle + 4, shortened(bar.name, label - 8, 12), Anchor::end, paints::ink, 12);
    const Paint paint = series_paint(bar.style);
    if (!dots) canvas.rect(panel.x, middle - row * 0.34, x - panel.x, row * 0.68, paint, 0.75);
    if (bar.point.low < bar.point.high)
      canvas.whisker_across(panel.at_x(bar.point.low), panel.at_x(bar.point.high), middle, dots ? paint : paints::ink);
    if (dots) canvas.mark(x, middle, bar.style);
    canvas.text(figure_width - 4, middle + 4, bar.text, Anchor::end, paints::ink, 12);
  }
  return 28 + panel.height + 26;
}

double draw_format_legend(Canvas& canvas, double y, const Styles& styles, const std::vector<std::string>& formats,
                          const std::vector<std::string>& names) {
  std::vector<LegendEntry> legend;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    const LegendEntry entry{styles.by_format() ? names[i] : backend_of(formats[i]), styles.of(formats[i])};
    const bool there =
        std::any_of(legend.begin(), legend.end(), [&](const LegendEntry& other) { return other.label == entry.label; });
    if (!there) legend.push_back(entry);
  }
  return draw_legend(canvas, left_margin, y, figure_width - left_margin, legend) + 8;
}

}  // namespace tqkv::measure

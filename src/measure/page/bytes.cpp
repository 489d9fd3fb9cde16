// Bytes of the cache by kind.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/numbers.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

struct Holding {
  std::string name;
  int tokens = 0;
  CacheBytes bytes;
  std::uint64_t total() const { return bytes.kv_allocated + bytes.recurrent + bytes.convolution; }
};

constexpr std::array<const char*, 4> kinds = {"keys and values in use", "allocated beyond", "recurrent state",
                                              "convolution state"};
constexpr std::array<int, 4> styles = {0, 5, 4, 3};

std::array<std::uint64_t, 4> parts_of(const Holding& holding) {
  const CacheBytes& bytes = holding.bytes;
  return {bytes.kv_used, bytes.kv_allocated - bytes.kv_used, bytes.recurrent, bytes.convolution};
}

Drawing draw(const std::vector<Holding>& holdings) {
  double label = 60;
  std::uint64_t most = 1;
  for (const Holding& holding : holdings) {
    label = std::max(label, text_width(holding.name, 12) + 12);
    most = std::max(most, holding.total());
  }
  label = std::min(label, 190.0);
  const bool gigabytes = most >= 10'000'000'000;
  const double unit = gigabytes ? 1e9 : 1e6;
  const double row = holdings.size() > 16 ? 17 : 22;
  Canvas canvas;
  const Panel panel{4 + label,
                    28,
                    figure_width - 4 - label - 66,
                    row * static_cast<double>(holdings.size()) + 6,
                    Scale::linear(0, 1.02 * static_cast<double>(most) / unit),
                    Scale::linear(0, 1)};
  canvas.text(4, 16, fmt::format("bytes of the cache, {}", gigabytes ? "GB (1e9)" : "MB (1e6)"));
  draw_across_axis(canvas, panel, "", 6);
  std::vector<std::string> described;
  for (std::size_t i = 0; i < holdings.size(); ++i) {
    const Holding& holding = holdings[i];
    const double middle = panel.y + 3 + row * (static_cast<double>(i) + 0.5);
    canvas.text(panel.x - 8, middle + 4, shortened(holding.name, label - 8, 12), Anchor::end, paints::ink, 12);
    double from = 0;
    const auto parts = parts_of(holding);
    for (std::size_t kind = 0; kind < parts.size(); ++kind) {
      const double to = from + static_cast<double>(parts[kind]) / unit;
      if (parts[kind] > 0) {
        canvas.rect(panel.at_x(from), middle - row * 0.36, panel.at_x(to) - panel.at_x(from), row * 0.72,
                    series_paint(styles[kind]), kind == 1 ? 0.5 : 0.9);
        canvas.line(panel.at_x(to), middle - row * 0.36, panel.at_x(to), middle + row * 0.36, {paints::paper, 1.2});
      }
      from = to;
    }
    canvas.text(figure_width - 4, middle + 4, fmt::format("{:.2f}", from), Anchor::end, paints::ink, 12);
    described.push_back(fmt::format("{} {} bytes", holding.name, grouped(holding.total())));
  }
  double y = panel.y + panel.height + 28;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    const std::size_t column = kind % 2, line = kind / 2;
    const double x = 8 + static_cast<double>(column) * figure_width / 2, top = y + static_cast<double>(line) * 19;
    canvas.rect(x, top, 12, 12, series_paint(styles[kind]), kind == 1 ? 0.5 : 0.9);
    canvas.text(x + 18, top + 10.5, kinds[kind], Anchor::start, paints::ink, 12);
  }
  y += 2 * 19 + 6;
  Drawing drawing;
  drawing.id = "bytes";
  drawing.title = "Bytes of the cache by kind";
  drawing.description = fmt::format(
      "A bar for each format in four parts: {}, {}, {}, {}. In all: {}. The table next to the figure has every part.",
      kinds[0], kinds[1], kinds[2], kinds[3], listed(described));
  drawing.width = figure_width;
  drawing.height = y;
  drawing.body = canvas.body();
  return drawing;
}

void add(const ReportContext& context, const std::vector<Holding>& holdings, const std::string& title) {
  // As many bars as a printed page takes.
  constexpr std::size_t most = 30;
  Section section;
  section.id = "bytes";
  section.title = title;
  section.paragraphs.push_back(
      "Keys and values are allocated in whole pages of 256 tokens; recurrent and convolution state have a fixed size.");
  for (std::size_t first = 0; first < holdings.size(); first += most) {
    const std::size_t last = std::min(holdings.size(), first + most);
    section.drawings.push_back(draw(
        {holdings.begin() + static_cast<std::ptrdiff_t>(first), holdings.begin() + static_cast<std::ptrdiff_t>(last)}));
  }
  Table table{"Bytes of the cache",
              {{"format", Column::Kind::words},
               {"tokens"},
               {"KV used"},
               {"KV allocated"},
               {"recurrent state"},
               {"convolution state"},
               {"in all"}},
              {}};
  for (const Holding& holding : holdings)
    table.rows.push_back({holding.name, grouped(holding.tokens), grouped(holding.bytes.kv_used),
                          grouped(holding.bytes.kv_allocated), grouped(holding.bytes.recurrent),
                          grouped(holding.bytes.convolution), grouped(holding.total())});
  section.tables.push_back(std::move(table));
  context.sections.push_back(std::move(section));
}

}  // namespace

void add_bytes(const ReportContext& context) {
  bool any = false;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    std::vector<Holding> holdings;
    const std::vector<std::string> precisions = precisions_of(evaluation);
    for (const QualityRun& run : evaluation.runs) {
      const std::string name = precisions.size() > 1 ? run.name + ", " + run.precision_text() : run.name;
      holdings.push_back({name, run.cache_tokens, run.cache});
    }
    if (holdings.empty()) continue;
    any = true;
    add(context, holdings, "Bytes by kind in the evaluation" + context.of(evaluation));
  }
  for (const SpeedGroup& group : context.data.speeds) {
    std::vector<Holding> holdings;
    const bool several = std::any_of(group.runs.begin(), group.runs.end(),
                                     [&](const SpeedRun& run) { return run.lengths != group.runs.front().lengths; });
    for (const SpeedRun& run : group.runs) {
      if (!run.bytes) continue;
      const int tokens = run.lengths.fed();
      holdings.push_back(
          {several ? fmt::format("{}, {} tokens", run.name, grouped(tokens)) : run.name, tokens, *run.bytes});
    }
    if (holdings.empty()) continue;
    any = true;
    add(context, holdings, "Bytes by kind in the benchmark" + context.of(group));
  }
  if (!any) context.left_out.push_back("bytes by kind: no file contains them (a comparison has totals alone)");
}

}  // namespace tqkv::measure

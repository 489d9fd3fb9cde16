// Recall: the needle grid and the answers by task.
#include <fmt/format.h>

#include <algorithm>

#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

struct Grid {
  std::string name;
  const RecallResult* recall = nullptr;
};

std::string count_text(const Proportion& answers) {
  return fmt::format("{}/{}", answers.right, answers.asked);
}

// The uncompressed grid first.
std::vector<Grid> grids_of(const EvaluationGroup& evaluation) {
  std::vector<Grid> grids;
  if (evaluation.reference_recall) grids.push_back({"uncompressed", &*evaluation.reference_recall});
  for (const QualityRun* run : recall_runs(evaluation)) grids.push_back({run->name, &*run->recall});
  return grids;
}

const RecallResult::Cell* cell_of(const RecallResult& recall, int length, double depth) {
  for (const RecallResult::Cell& cell : recall.needle) {
    if (cell.length == length && cell.depth == depth) return &cell;
  }
  return nullptr;
}

struct Axes {
  std::vector<int> lengths;
  std::vector<double> depths;
};

Axes axes_of(const std::vector<Grid>& grids) {
  Axes axes;
  for (const Grid& grid : grids) {
    for (const RecallResult::Cell& cell : grid.recall->needle) {
      axes.lengths.push_back(cell.length);
      axes.depths.push_back(cell.depth);
    }
  }
  const auto distinct = [](auto& values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
  };
  distinct(axes.lengths);
  distinct(axes.depths);
  return axes;
}

std::string depth_text(double depth) {
  return fmt::format("{:.0f} %", 100 * depth);
}

// One small map: lengths across, depths downwards.
void draw_map(Canvas& canvas, double x, double y, double width, double row, const Grid& grid, const Axes& axes) {
  constexpr double names = 44;
  const double column = (width - names) / static_cast<double>(axes.lengths.size());
  canvas.text(x, y + 12, shortened(grid.name, width, 12), Anchor::start, paints::ink, 12);
  for (std::size_t d = 0; d < axes.depths.size(); ++d) {
    const double top = y + 20 + row * static_cast<double>(d);
    canvas.text(x + names - 6, top + row / 2 + 4, depth_text(axes.depths[d]), Anchor::end, paints::faint, 11);
    for (std::size_t l = 0; l < axes.lengths.size(); ++l) {
      const double left = x + names + column * static_cast<double>(l);
      const RecallResult::Cell* cell = cell_of(*grid.recall, axes.lengths[l], axes.depths[d]);
      const bool asked = cell != nullptr && cell->of.asked > 0;
      const double share = asked ? cell->of.share() : 0;
      canvas.cell(left, top, column, row, asked ? shade(share) : "#ffffff");
      const std::string text = asked ? count_text(cell->of) : "–";
      if (text_width(text, 11) < column)
        canvas.text_in(left + column / 2, top + row / 2 + 4, text, Anchor::middle, share > 0.5 ? "#ffffff" : "#1a1a1a",
                       11);
    }
  }
  const double bottom = y + 20 + row * static_cast<double>(axes.depths.size());
  for (std::size_t l = 0; l < axes.lengths.size(); ++l) {
    const std::string text = tokens_text(axes.lengths[l]);
    if (text_width(text, 11) < column + 8)
      canvas.text(x + names + column * (static_cast<double>(l) + 0.5), bottom + 14, text, Anchor::middle, paints::faint,
                  11);
  }
}

// As many figures as keep each of them on a printed page.
std::vector<Drawing> draw_maps(const std::vector<Grid>& grids, const Axes& axes) {
  const double row = axes.depths.size() > 8 ? 16 : 20;
  const double map_height = 20 + row * static_cast<double>(axes.depths.size()) + 32;
  const auto rows = static_cast<std::size_t>(std::max(1.0, 620 / map_height));
  const std::size_t columns = axes.lengths.size() > 5 ? 1 : 2;
  const double width = figure_width / static_cast<double>(columns) - 12;
  std::vector<Drawing> drawings;
  for (std::size_t first = 0; first < grids.size(); first += rows * columns) {
    const std::size_t last = std::min(grids.size(), first + rows * columns);
    Canvas canvas;
    std::vector<std::string> shares;
    double bottom = 0;
    for (std::size_t i = first; i < last; ++i) {
      const std::size_t column = (i - first) % columns, line = (i - first) / columns;
      const double x = 4 + static_cast<double>(column) * (width + 12);
      const double y = 4 + static_cast<double>(line) * map_height;
      draw_map(canvas, x, y, width, row, grids[i], axes);
      bottom = std::max(bottom, y + map_height);
      Proportion sum;
      for (const RecallResult::Cell& cell : grids[i].recall->needle) {
        sum.asked += cell.of.asked;
        sum.right += cell.of.right;
      }
      shares.push_back(fmt::format("{} {}", grids[i].name, count_text(sum)));
    }
    Drawing drawing;
    drawing.id = "needle";
    drawing.title = "Needle maps: right answers by length and depth";
    drawing.description = fmt::format(
        "A small map for each format, lengths of {} tokens across and {} depths downwards; darker is more right "
        "answers. "
        "In all: {}. The table next to the figure has every cell.",
        tokens_text(axes.lengths.front()) +
            (axes.lengths.size() > 1 ? " to " + tokens_text(axes.lengths.back()) : std::string()),
        axes.depths.size(), listed(shares));
    drawing.width = figure_width;
    drawing.height = bottom;
    drawing.body = canvas.body();
    drawings.push_back(std::move(drawing));
  }
  return drawings;
}

Table needle_table(const std::vector<Grid>& grids, const Axes& axes) {
  Table table{
      "Needles found, right/asked, by depth in the context", {{"format", Column::Kind::words}, {"length, tokens"}}, {}};
  for (const double depth : axes.depths) table.columns.push_back({depth_text(depth)});
  for (const Grid& grid : grids) {
    for (const int length : axes.lengths) {
      std::vector<std::string> row = {grid.name, tokens_text(length)};
      for (const double depth : axes.depths) {
        const RecallResult::Cell* cell = cell_of(*grid.recall, length, depth);
        row.push_back(cell == nullptr ? "–" : count_text(cell->of));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

const Proportion* task_of(const RecallResult& recall, RecallTask task) {
  for (const RecallResult::Task& own : recall.tasks) {
    if (own.task == task) return &own.of;
  }
  return nullptr;
}

std::vector<RecallTask> tasks_of(const std::vector<Grid>& grids) {
  std::vector<RecallTask> tasks;
  for (const Grid& grid : grids) {
    for (const RecallResult::Task& own : grid.recall->tasks) {
      if (std::find(tasks.begin(), tasks.end(), own.task) == tasks.end()) tasks.push_back(own.task);
    }
  }
  return tasks;
}

// One task: a mark with its interval for each format, the uncompressed share as a line.
void draw_task(Canvas& canvas, double x, double y, double width, double height, const std::string& title,
               const Proportion* reference, const std::vector<std::pair<const Proportion*, int>>& answers) {
  const Panel panel{x, y + 22, width, height, Scale::linear(0, 1), Scale::linear(0, 1)};
  canvas.text(x, y + 13, shortened(title, width, 12), Anchor::start, paints::ink, 12);
  for (const double share : {0.0, 0.5, 1.0}) {
    canvas.line(panel.x, panel.at_y(share), panel.x + width, panel.at_y(share), {paints::grid, 1});
    canvas.text(panel.x - 5, panel.at_y(share) + 4, fmt::format("{:.0f} %", 100 * share), Anchor::end, paints::faint,
                11);
  }
  if (reference != nullptr && reference->asked > 0)
    canvas.line(panel.x, panel.at_y(reference->share()), panel.x + width, panel.at_y(reference->share()),
                {paints::ink, 1.4, "5 3"});
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto& [these, style] = answers[i];
    if (these == nullptr || these->asked == 0) continue;
    const double at = category_x(panel, i, answers.size());
    canvas.whisker(at, panel.at_y(these->high), panel.at_y(these->low), series_paint(style));
    canvas.mark(at, panel.at_y(these->share()), style, answers.size() > 14 ? 7 : 9);
  }
}

Drawing draw_tasks(const EvaluationGroup& evaluation, const Styles& styles, const std::vector<RecallTask>& tasks) {
  constexpr double height = 88, row = height + 40, left = 44, width = (figure_width - 2 * left - 24) / 2;
  const std::vector<const QualityRun*> runs = recall_runs(evaluation);
  const RecallResult* reference = evaluation.reference_recall ? &*evaluation.reference_recall : nullptr;
  Canvas canvas;
  for (std::size_t place = 0; place <= tasks.size(); ++place) {
    const bool all = place == tasks.size();
    std::vector<std::pair<const Proportion*, int>> answers;
    int asked = 0;
    for (const QualityRun* run : runs) {
      const Proportion* these = all ? &run->recall->total : task_of(*run->recall, tasks[place]);
      answers.emplace_back(these, styles.of(run->format));
      if (these != nullptr) asked = std::max(asked, these->asked);
    }
    const Proportion* these = reference == nullptr ? nullptr
                              : all                ? &reference->total
                                                   : task_of(*reference, tasks[place]);
    const std::size_t column = place % 2, line = place / 2;
    const double x = left + static_cast<double>(column) * (width + left + 20);
    draw_task(canvas, x, 4 + static_cast<double>(line) * row, width, height,
              fmt::format("{} ({} asked)", all ? "all tasks" : name(tasks[place]), asked), these, answers);
  }
  const std::size_t lines = tasks.size() / 2 + 1;
  const double used = 4 + static_cast<double>(lines) * row;
  std::vector<std::string> formats, names, shares;
  for (const QualityRun* run : runs) {
    formats.push_back(run->format);
    names.push_back(run->name);
    shares.push_back(fmt::format("{} {}", run->name, percent(run->recall->total.share())));
  }
  Drawing drawing;
  drawing.id = "recall";
  drawing.title = "Right answers by task";
  drawing.description = fmt::format(
      "A panel for each of {} tasks and one for all, with the share of right answers and its interval for each "
      "format{}. "
      "Over all tasks: {}. The table next to the figure has every number.",
      tasks.size(), reference == nullptr ? "" : "; a dashed line is the uncompressed cache", listed(shares));
  drawing.width = figure_width;
  drawing.height = used + draw_format_legend(canvas, used, styles, formats, names);
  drawing.body = canvas.body();
  return drawing;
}

std::string answers_with_interval(const Proportion* answers) {
  if (answers == nullptr || answers->asked == 0) return "–";
  return fmt::format("{} ({:.0f}–{:.0f} %)", count_text(*answers), 100 * answers->low, 100 * answers->high);
}

Table recall_table(const std::vector<Grid>& grids, const std::vector<RecallTask>& tasks) {
  Table table{"Right answers, right/asked with the 95% interval", {{"format", Column::Kind::words}}, {}};
  for (const RecallTask task : tasks) table.columns.push_back({std::string(name(task))});
  table.columns.push_back({"all"});
  for (const Grid& grid : grids) {
    std::vector<std::string> row = {grid.name};
    for (const RecallTask task : tasks) row.push_back(answers_with_interval(task_of(*grid.recall, task)));
    row.push_back(answers_with_interval(&grid.recall->total));
    table.rows.push_back(std::move(row));
  }
  return table;
}

// Question by question against the uncompressed cache.
Table paired_table(const std::vector<const QualityRun*>& runs) {
  Table table{"Against the uncompressed cache, question by question",
              {{"format", Column::Kind::words},
               {"difference, points (95% interval)"},
               {"right only uncompressed"},
               {"right only compressed"}},
              {}};
  for (const QualityRun* run : runs) {
    const PairedDifference& paired = run->recall->paired;
    table.rows.push_back({run->name, points_with_interval(paired), std::to_string(paired.only_reference),
                          std::to_string(paired.only_this)});
  }
  return table;
}

// Right answers by the length of the context, for the table alone.
std::optional<Table> length_table(const std::vector<Grid>& grids) {
  std::vector<int> lengths;
  for (const Grid& grid : grids) {
    for (const RecallResult::Length& own : grid.recall->lengths) lengths.push_back(own.length);
  }
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  if (lengths.empty()) return std::nullopt;
  Table table{"Right answers by the length of the context, tokens", {{"format", Column::Kind::words}}, {}};
  for (const int length : lengths) table.columns.push_back({tokens_text(length)});
  for (const Grid& grid : grids) {
    std::vector<std::string> row = {grid.name};
    for (const int length : lengths) {
      const Proportion* found = nullptr;
      for (const RecallResult::Length& own : grid.recall->lengths) {
        if (own.length == length) found = &own.of;
      }
      row.push_back(answers_with_interval(found));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

void add_needles(const ReportContext& context) {
  bool any = false;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    std::vector<Grid> grids = grids_of(evaluation);
    grids.erase(
        std::remove_if(grids.begin(), grids.end(), [](const Grid& grid) { return grid.recall->needle.empty(); }),
        grids.end());
    if (grids.empty()) continue;
    any = true;
    const Axes axes = axes_of(grids);
    Section section;
    section.id = "needle";
    section.title = "Needle maps" + context.of(evaluation);
    section.paragraphs.push_back(
        "Right answers of those asked, by the length of the context in tokens (across) and the depth of the needle in "
        "it "
        "(downwards, 0 % is the start). Darker is better.");
    section.drawings = draw_maps(grids, axes);
    section.tables.push_back(needle_table(grids, axes));
    context.sections.push_back(std::move(section));
  }
  if (!any) context.left_out.push_back("needle maps: no file contains needle answers");
}

void add_recall(const ReportContext& context) {
  bool any = false;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    const std::vector<Grid> grids = grids_of(evaluation);
    const std::vector<RecallTask> tasks = tasks_of(grids);
    if (tasks.empty()) continue;
    any = true;
    Section section;
    section.id = "recall";
    section.title = "Recall by task" + context.of(evaluation);
    section.paragraphs.push_back(
        "Share of right answers with its 95% interval; the dashed line is the uncompressed cache.");
    if (!context.styles.by_format())
      section.paragraphs.push_back("Within a panel the formats stand in the order of the table.");
    if (!recall_runs(evaluation).empty()) section.drawings.push_back(draw_tasks(evaluation, context.styles, tasks));
    section.tables.push_back(recall_table(grids, tasks));
    if (Table table = paired_table(recall_runs(evaluation)); !table.rows.empty())
      section.tables.push_back(std::move(table));
    if (auto table = length_table(grids)) section.tables.push_back(std::move(*table));
    context.sections.push_back(std::move(section));
  }
  if (!any) context.left_out.push_back("recall by task: no file contains answers");
}

}  // namespace tqkv::measure

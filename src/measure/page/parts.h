// The parts of a report page: sections with their figures and tables, and the charts that figures share.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "measure/figures/number_text.h"
#include "measure/page/data.h"
#include "measure/page/labels.h"
#include "measure/page/svg.h"

namespace tqkv::measure {

struct Column {
  enum class Kind { number, words, long_words };  // long words may wrap
  std::string title;                              // with the unit
  Kind kind = Kind::number;
};

struct Table {
  std::string caption;
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns
};

struct Section {
  std::string id, title;
  std::vector<std::string> paragraphs;
  std::vector<std::string> commands;  // shown as they are typed
  std::vector<Drawing> drawings;
  std::vector<Table> tables;
};

/// What the sections share.
struct ReportContext {
  const ReportData& data;
  const Styles& styles;
  std::vector<Section>& sections;
  std::vector<std::string>& left_out;
  /// " of MODEL, TEXT" where the report has several of a kind; else empty.
  std::string of(const EvaluationGroup& evaluation) const;
  std::string of(const SpeedGroup& group) const;
};

// Each adds its sections, or says in left_out why there are none.
void add_losses(const ReportContext& context);          // summary.cpp
void add_summary(const ReportContext& context);         // summary.cpp
void add_quality(const ReportContext& context);         // quality.cpp
void add_positions(const ReportContext& context);       // positions.cpp
void add_needles(const ReportContext& context);         // recall.cpp
void add_recall(const ReportContext& context);          // recall.cpp
void add_speeds(const ReportContext& context);          // speed.cpp
void add_bytes(const ReportContext& context);           // bytes.cpp
void add_codec(const ReportContext& context);           // codec.cpp
void add_captured(const ReportContext& context);        // captured.cpp
void add_tunings(const ReportContext& context);         // tuning.cpp
void add_stored_formats(const ReportContext& context);  // sources.cpp
void add_sources(const ReportContext& context);         // sources.cpp

/// Indices of the runs with agreement of one precision, from many bits to few, baseline first.
std::vector<const QualityRun*> agreement_runs(const EvaluationGroup& evaluation, const std::string& precision);
/// Precisions of the runs with agreement, in order of appearance.
std::vector<std::string> precisions_of(const EvaluationGroup& evaluation);
/// Runs with answers, a format once, in the same order; those of baseline only where there is no reference grid.
std::vector<const QualityRun*> recall_runs(const EvaluationGroup& evaluation);
/// The rival of `run` with the lowest mean KL among those of other backends that `fits`; nothing where there is none.
/// Baseline is no rival.
const QualityRun* best_rival(const std::vector<const QualityRun*>& runs, const QualityRun& run,
                             bool (*fits)(const QualityRun& run, const QualityRun& rival));
/// How two mean KL differ, in standard errors of the difference: negative when `a` has less. Errors that are not there
/// count as 0.
double difference_in_errors(const AgreementPart& a, const AgreementPart& b);

/// "-4.2 (-10.1 to +1.5)": points with their interval.
std::string points_with_interval(const PairedDifference& paired);

/// Letters, digits and single hyphens alone.
std::string slug(std::string_view text);

/// Width of every figure, in units of its view box.
inline constexpr double figure_width = 520;

struct SeriesPoint {
  double value = 0, low = 0, high = 0;  // with the ends of its whisker
};
/// A line over categories.
struct Series {
  std::string name, group;
  int style = 0;
  std::vector<std::optional<SeriesPoint>> points;  // one for each category
};
/// A line across a panel, with its name.
struct Level {
  std::string name;
  double value = 0;
};
struct LineChart {
  std::string up_title, across_title;
  std::vector<std::string> categories;
  std::vector<Series> series;
  std::vector<Level> levels;
  bool logarithmic = false;  // points at or below 0 are left out
  bool from_zero = false;
};
/// One panel with all lines; with more lines than styles one for each group of several and one for the rest, each with
/// the other lines faint behind it. Returns the height used from `y` on.
double draw_line_chart(Canvas& canvas, double y, const LineChart& chart);

struct Bar {
  std::string name, text;
  int style = 0;
  SeriesPoint point;
};
/// Lying bars from 0; with `dots`, marks alone beside a line at 1. Returns the height used.
double draw_bars(Canvas& canvas, double y, std::string_view title, const std::vector<Bar>& bars, bool dots);

/// The names of levels over their lines, moved apart where they would overlap.
void draw_levels(Canvas& canvas, const Panel& panel, const std::vector<Level>& levels);

/// The legend of formats, or of backends where they share styles; returns the height used.
double draw_format_legend(Canvas& canvas, double y, const Styles& styles, const std::vector<std::string>& formats,
                          const std::vector<std::string>& names);

}  // namespace tqkv::measure

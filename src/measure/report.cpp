#include "tqkv/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "measure/report_data.h"
#include "measure/report_page.h"
#include "measure/report_parts.h"
#include "tqkv/version.h"

namespace tqkv {
namespace {

using measure::ReportData;
using measure::Section;

// Ids of sections and figures in their order, each once.
void make_ids_unique(std::vector<Section>& sections) {
  std::set<std::string> sections_used, drawings_used;
  const auto unique = [](std::set<std::string>& used, const std::string& id) {
    std::string fresh = id;
    for (int number = 2; !used.insert(fresh).second; ++number) fresh = fmt::format("{}-{}", id, number);
    return fresh;
  };
  for (Section& section : sections) {
    section.id = unique(sections_used, section.id);
    for (measure::Drawing& drawing : section.drawings) drawing.id = unique(drawings_used, "figure-" + drawing.id);
  }
}

std::vector<std::string> distinct(const ReportData& data, std::string (*get)(const measure::Source& source)) {
  std::vector<std::string> values;
  for (const measure::Source& source : data.sources) {
    const std::string value = get(source);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

std::string model_of(const measure::Source& source) {
  return source.model;
}
std::string model_and_shape_of(const measure::Source& source) {
  return fmt::format("{} ({})", source.model, source.shape);
}
std::string machine_of(const measure::Source& source) {
  return fmt::format("{} ({})", source.cpu, source.device.canonical());
}

std::string introduction(const ReportData& data) {
  std::vector<std::string> kinds;
  for (const auto& [kind, one, more] : {std::tuple{"evaluation", "evaluation", "evaluations"},
                                        {"benchmark", "benchmark", "benchmarks"},
                                        {"comparison", "comparison of benchmarks", "comparisons of benchmarks"},
                                        {"tuning", "tuning", "tunings"}}) {
    const auto count =
        std::count_if(data.sources.begin(), data.sources.end(),
                      [&, wanted = std::string(kind)](const measure::Source& s) { return s.kind == wanted; });
    if (count > 0) kinds.push_back(fmt::format("{} {}", count, count == 1 ? one : more));
  }
  return fmt::format("Model: {}. Machine: {}. Made by tqkv {} from {}.",
                     measure::listed(distinct(data, model_and_shape_of)), measure::listed(distinct(data, machine_of)),
                     version, measure::listed(kinds));
}

}  // namespace

Report make_report(std::span<const ReportFile> files, const std::string& command) {
  const ReportData data = measure::read_report_files(files);
  const measure::Styles styles(data.formats);
  measure::Page page;
  const measure::ReportContext context{data, styles, page.sections, page.left_out};
  measure::add_losses(context);
  measure::add_summary(context);
  measure::add_quality(context);
  measure::add_positions(context);
  measure::add_recall(context);
  measure::add_needles(context);
  measure::add_speeds(context);
  measure::add_bytes(context);
  measure::add_codec(context);
  measure::add_captured(context);
  measure::add_tunings(context);
  measure::add_stored_formats(context);
  measure::add_sources(context);
  make_ids_unique(page.sections);
  page.title = "Compressed key-value caches of " + measure::listed(distinct(data, model_of));
  page.introduction.push_back(introduction(data));
  page.command = command;

  Report report;
  report.page = measure::page_text(page);
  report.left_out = page.left_out;
  for (const Section& section : page.sections) {
    for (const measure::Drawing& drawing : section.drawings)
      report.figures.push_back({drawing.id.substr(std::string_view("figure-").size()), measure::svg_file(drawing)});
  }
  return report;
}

}  // namespace tqkv

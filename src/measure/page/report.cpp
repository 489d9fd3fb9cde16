#include "measure/page/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "measure/page/data.h"
#include "measure/page/html.h"
#include "measure/page/parts.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

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
    for (Drawing& drawing : section.drawings) drawing.id = unique(drawings_used, "figure-" + drawing.id);
  }
}

std::vector<std::string> distinct(const ReportData& data, std::string (*get)(const Source& source)) {
  std::vector<std::string> values;
  for (const Source& source : data.sources) {
    const std::string value = get(source);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

std::string model_of(const Source& source) {
  return source.model;
}
std::string model_and_shape_of(const Source& source) {
  return fmt::format("{} ({})", source.model, source.shape);
}
std::string machine_of(const Source& source) {
  return fmt::format("{} ({})", source.processor(), source.device.device.canonical());
}

std::string introduction(const ReportData& data) {
  std::vector<std::string> kinds;
  for (const auto& [kind, one, more] : {std::tuple{"evaluation", "evaluation", "evaluations"},
                                        {"benchmark", "benchmark", "benchmarks"},
                                        {"comparison", "comparison of benchmarks", "comparisons of benchmarks"},
                                        {"tuning", "tuning", "tunings"}}) {
    const auto count = std::count_if(data.sources.begin(), data.sources.end(),
                                     [&, wanted = std::string(kind)](const Source& s) { return s.kind == wanted; });
    if (count > 0) kinds.push_back(fmt::format("{} {}", count, count == 1 ? one : more));
  }
  return fmt::format("Model: {}. Machine: {}. Made by tqkv {} from {}.", listed(distinct(data, model_and_shape_of)),
                     listed(distinct(data, machine_of)), version, listed(kinds));
}

}  // namespace

Report make_report(std::span<const ReportFile> files, const std::string& command) {
  const ReportData data = read_report_files(files);
  const Styles styles(data.formats);
  Page page;
  const ReportContext context{data, styles, page.sections, page.left_out};
  add_losses(context);
  add_summary(context);
  add_quality(context);
  add_positions(context);
  add_recall(context);
  add_needles(context);
  add_speeds(context);
  add_bytes(context);
  add_codec(context);
  add_captured(context);
  add_tunings(context);
  add_stored_formats(context);
  add_sources(context);
  make_ids_unique(page.sections);
  page.title = "Compressed key-value caches of " + listed(distinct(data, model_of));
  page.introduction.push_back(introduction(data));
  page.command = command;

  Report report;
  report.page = page_text(page);
  report.left_out = page.left_out;
  for (const Section& section : page.sections) {
    for (const Drawing& drawing : section.drawings)
      report.figures.push_back({drawing.id.substr(std::string_view("figure-").size()), svg_file(drawing)});
  }
  return report;
}

}  // namespace tqkv::measure

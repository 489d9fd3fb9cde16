// What was measured: how each format is stored, layer by layer; machines, settings and commands.
#include <fmt/format.h>

#include <algorithm>

#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

using Kind = Column::Kind;

struct Stored {
  std::string format, layers, k, v;
  bool operator==(const Stored&) const = default;
};

// Layers that store alike share a row.
void add_rows(std::vector<Stored>& rows, const std::string& format, const std::vector<cache::LayerText>& layers) {
  std::vector<Stored> own;
  for (const cache::LayerText& layer : layers) {
    auto found =
        std::find_if(own.begin(), own.end(), [&](const Stored& row) { return row.k == layer.k && row.v == layer.v; });
    if (found == own.end()) found = own.insert(own.end(), {format, "", layer.k, layer.v});
    found->layers += fmt::format("{}{}", found->layers.empty() ? "" : ", ", layer.layer);
  }
  for (Stored& row : own) {
    if (std::find(rows.begin(), rows.end(), row) == rows.end()) rows.push_back(std::move(row));
  }
}

std::string what_of(const Source& source) {
  std::string text = fmt::format("{} ({})", source.model, source.shape);
  return text + ", fingerprint " + source.fingerprint;
}

std::string machine_with_memory(const Source& source) {
  std::string text = fmt::format("{}, {}", source.processor(), source.device.device.canonical());
  if (source.memory > 0) text += fmt::format(", {:.1f} GB of memory", static_cast<double>(source.memory) / 1e9);
  return text;
}

}  // namespace

void add_stored_formats(const ReportContext& context) {
  std::vector<Stored> rows;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    for (const QualityRun& run : evaluation.runs) add_rows(rows, run.format, run.layers);
  }
  for (const SpeedGroup& group : context.data.speeds) {
    for (const SpeedRun& run : group.runs) add_rows(rows, run.format, run.layers);
  }
  if (rows.empty()) {
    context.left_out.push_back("formats layer by layer: no file contains them");
    return;
  }
  const std::map<std::string, std::string> names = short_names(context.data.formats);
  Section section;
  section.id = "formats";
  section.title = "What is stored, layer by layer";
  section.paragraphs.push_back(
      "As the caches were, not as they were asked for. With f32 precision a side without compression is held as f32.");
  Table table{"Effective formats",
              {{"name here", Kind::words},
               {"format", Kind::long_words},
               {"layers", Kind::words},
               {"keys", Kind::words},
               {"values", Kind::words}},
              {}};
  for (const Stored& row : rows) table.rows.push_back({names.at(row.format), row.format, row.layers, row.k, row.v});
  section.tables.push_back(std::move(table));
  context.sections.push_back(std::move(section));
}

void add_sources(const ReportContext& context) {
  Section section;
  section.id = "sources";
  section.title = "Machine, settings and commands";
  Table files{"Files of this report",
              {{"file", Kind::words},
               {"kind", Kind::words},
               {"tqkv", Kind::words},
               {"model", Kind::long_words},
               {"machine", Kind::long_words}},
              {}};
  Table settings{"Settings", {{"file", Kind::words}, {"settings", Kind::long_words}}, {}};
  bool derived = false;
  for (const Source& source : context.data.sources) {
    files.rows.push_back({source.file, source.kind, source.version.empty() ? "–" : source.version, what_of(source),
                          machine_with_memory(source)});
    std::string text;
    for (const auto& [name, value] : source.settings)
      text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", name, value);
    settings.rows.push_back({source.file, text.empty() ? "–" : text});
    if (source.command.empty()) continue;
    section.commands.push_back(source.command);
    derived = derived || !source.command_stored;
  }
  if (derived)
    section.paragraphs.push_back(
        "Files of tqkv benchmark and tqkv compare hold no command: theirs are put together from the "
        "settings in them.");
  section.tables.push_back(std::move(files));
  section.tables.push_back(std::move(settings));
  context.sections.push_back(std::move(section));
}

}  // namespace tqkv::measure

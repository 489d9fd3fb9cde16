// Report: one page about quality, speed and memory, made from the files of `tqkv evaluate`, `tqkv benchmark` and
// `tqkv compare`. Implemented in src/measure; docs/measuring.md tells what the figures show.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace tqkv::measure {

/// A JSON file of one of the three commands.
struct ReportFile {
  std::string name, text;
};

struct ReportFigure {
  std::string name;  ///< fit for a file: "quality-f32"
  std::string svg;   ///< a complete file
};

struct Report {
  std::string page;                   ///< HTML that needs no other file, no network and no script
  std::vector<ReportFigure> figures;  ///< those of the page
  std::vector<std::string> left_out;  ///< parts without figures in the files, with the reason
};

/// `command` is how the report was asked for; it stands on the page. The same files give the same bytes. Throws
/// Error(usage) without files, Error(input), naming the file, for one that cannot be used.
Report make_report(std::span<const ReportFile> files, const std::string& command);

}  // namespace tqkv::measure

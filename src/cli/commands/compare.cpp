#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/commands/commands.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "measure/benchmark/benchmark.h"

namespace tqkv::cli {

using namespace measure;

namespace {

struct CompareArguments {
  std::vector<std::string> files;
  std::string output;
};

void compare_files(const CompareArguments& options) {
  std::vector<BenchmarkFile> files;
  for (const std::string& path : options.files) files.push_back({path, read_json_input(path)});
  const Comparison comparison = compare(files);
  if (!options.output.empty()) {
    OutputFile file(options.output);
    file.write(comparison.json);
    file.commit();
  }
  print_result(options.output, comparison.table);
}

}  // namespace

void add_compare(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<CompareArguments>();
  CLI::App* command = program.add_subcommand("compare", "Compare the files of several benchmark runs");
  command->add_option("FILES", options->files, "Files written by 'tqkv benchmark --output'")->required()->type_name("");
  command->add_option("--output", options->output, "Write the comparison to this JSON file; - is standard output")
      ->type_name("FILE");
  command->footer("Example:\n  tqkv compare baseline.json turboquant.json --output summary.json");
  command->callback([options] { compare_files(*options); });
}

}  // namespace tqkv::cli

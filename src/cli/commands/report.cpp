#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/commands/commands.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "measure/page/report.h"
#include "tqkv/error.h"

namespace tqkv::cli {

using namespace measure;

namespace {

namespace fs = std::filesystem;

constexpr std::size_t largest_file = std::size_t{256} << 20;  // bytes

struct ReportArguments {
  std::vector<std::string> files;
  std::string output, figures;
};

// As a shell takes it.
std::string quoted(const std::string& word) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:=,@";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string command_of(const ReportArguments& options) {
  std::string command = "tqkv report";
  for (const std::string& file : options.files) command += " " + quoted(file);
  command += " --output " + quoted(options.output);
  if (!options.figures.empty()) command += " --figures " + quoted(options.figures);
  return command;
}

fs::path figures_folder(const ReportArguments& options) {
  if (!options.figures.empty()) return options.figures;
  const fs::path page = options.output;
  fs::path folder = page.parent_path() / page.stem();
  if (folder == page) folder += "-figures";
  return folder;
}

void write_report(const ReportArguments& options) {
  OutputFile page(options.output);  // opened first: a folder that cannot be written is known before the work
  const fs::path folder = figures_folder(options);
  std::error_code ignored;
  // A device or a pipe has no folder of figures next to it.
  const bool with_figures = !options.figures.empty() ||
                            (!page.is_standard_output() &&
                             (!fs::exists(options.output, ignored) || fs::is_regular_file(options.output, ignored)));
  if (std::error_code error; fs::exists(folder, error) && !fs::is_directory(folder, error))
    throw Error(ErrorKind::io,
                fmt::format("{}: is no folder, the figures need one: name another with --figures", folder.string()));
  std::vector<ReportFile> files;
  for (const std::string& path : options.files) files.push_back({path, read_json_input(path, largest_file)});
  const Report report = make_report(files, command_of(options));

  // Everything is written before anything gets its name.
  std::vector<std::unique_ptr<AtomicFile>> figures;
  if (with_figures) {
    for (const ReportFigure& figure : report.figures) {
      figures.push_back(std::make_unique<AtomicFile>(folder / (figure.name + ".svg")));
      figures.back()->write(figure.svg);
    }
  }
  if (page.is_standard_output())
    for (const auto& figure : figures) figure->commit();
  page.write(report.page);
  if (!page.is_standard_output())
    for (const auto& figure : figures) figure->commit();
  page.commit();

  std::string said =
      fmt::format("{}: {} figure{}", options.output, report.figures.size(), report.figures.size() == 1 ? "" : "s");
  if (!figures.empty()) said += fmt::format(", as SVG in {}", folder.string());
  said += "\n";
  for (const std::string& part : report.left_out) said += "left out: " + part + "\n";
  print_result(options.output, said);
}

}  // namespace

void add_report(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<ReportArguments>();
  CLI::App* command = program.add_subcommand("report", "Make a page with tables and figures from measurements");
  command->add_option("FILES", options->files, "Files written by the --output of evaluate, benchmark and compare")
      ->required()
      ->type_name("");
  command->add_option("--output", options->output, "HTML file to write; - is standard output")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--figures", options->figures,
                   "Folder for the figures as SVG files (default: the output's name without its extension)")
      ->type_name("DIR");
  command->footer(
      "Example:\n"
      "  tqkv evaluate pocket --backend mlx_quant,turboquant --output q.json\n"
      "  tqkv report q.json --output report.html");
  command->callback([options] { write_report(*options); });
}

}  // namespace tqkv::cli

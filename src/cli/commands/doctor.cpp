#include "measure/inspect/doctor.h"

#include <memory>
#include <string>

#include "cli/commands/commands.h"
#include "cli/terminal/output_file.h"

namespace tqkv::cli {
namespace {

struct DoctorArguments {
  std::string output;
  bool json = false;
};

void doctor(const DoctorArguments& options) {
  OutputFile file(options.output.empty() ? "-" : options.output);
  const measure::Diagnosis diagnosis = measure::diagnose();
  file.write(options.json ? to_json(diagnosis) : to_text(diagnosis));
  file.commit();
}

}  // namespace

void add_doctor(CLI::App& program) {
  const auto options = std::make_shared<DoctorArguments>();
  CLI::App* command = program.add_subcommand("doctor", "Show what this machine has, which devices run, and what to do");
  command->add_flag("--json", options->json, "Print every figure as JSON");
  command->add_option("--output", options->output, "Write to this file instead of standard output")->type_name("FILE");
  command->footer("It needs no model and takes about a second.");
  command->callback([options] { doctor(*options); });
}

}  // namespace tqkv::cli

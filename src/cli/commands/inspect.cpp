#include "measure/inspect/inspect.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/file.h"
#include "cli/commands/commands.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "tqkv/model.h"

namespace tqkv::cli {
namespace {

struct InspectArguments {
  std::string model, precision = "fast", output;
  measure::InspectOptions inspect;
  DeviceChoice device;
  std::optional<double> memory_gb;
  bool json = false;
};

// A file is a config.json without its model.
measure::Inspection look_at(const InspectArguments& options) {
  std::error_code error;
  if (std::filesystem::is_regular_file(options.model, error)) {
    const ModelConfig config = ModelConfig::parse(read_text(options.model), options.model);
    return measure::inspect(config, options.model, nullptr, options.inspect);
  }
  const Checkpoint checkpoint = Checkpoint::open(find_model(options.model));
  return measure::inspect(open_config(checkpoint), options.model, &checkpoint, options.inspect);
}

void inspect(InspectArguments& options) {
  options.inspect.device = {options.device.device(), options.precision == "f32" ? Precision::f32 : Precision::fast, {}};
  if (options.memory_gb) options.inspect.available = static_cast<std::uint64_t>(*options.memory_gb * 1e9);
  OutputFile file(options.output.empty() ? "-" : options.output);
  const measure::Inspection inspection = look_at(options);
  const std::string text = options.json ? to_json(inspection) : to_text(inspection);
  file.write(text);
  file.commit();
}

}  // namespace

void add_inspect(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<InspectArguments>();
  CLI::App* command =
      program.add_subcommand("inspect", "Show a model, what it takes in bytes and what fits on this machine");
  command
      ->add_option("MODEL", options->model,
                   "A directory, org/name[@revision] of the hub, pocket, or a config.json alone")
      ->required()
      ->type_name("");
  command->add_option("--prompt-tokens", options->inspect.prompt_tokens, "Prompt lengths to show, separated by commas")
      ->transform(whole_number(1, max_count))
      ->delimiter(',')
      ->type_name("N,...")
      ->default_str("2048,128");
  command
      ->add_option("--generation-tokens", options->inspect.generation_tokens,
                   "Generated tokens, combined with each prompt length")
      ->transform(whole_number(1, max_count))
      ->delimiter(',')
      ->type_name("N,...")
      ->default_str("8");
  command->add_option("--memory", options->memory_gb, "Plan for a machine with this many GB free instead of this one")
      ->transform(real_number(0.001, 1e9))
      ->type_name("GB");
  command->add_option("--precision", options->precision, "Plan for fast or f32")
      ->check(CLI::IsMember({"fast", "f32"}))
      ->type_name("KIND")
      ->capture_default_str();
  command->add_option("--prefill-chunk", options->inspect.prefill_chunk, "Prompt tokens per forward pass")
      ->transform(whole_number(1, max_count))
      ->type_name("N")
      ->capture_default_str();
  add_device_options(*command, options->device, "");
  command->add_flag("--json", options->json, "Print every figure as JSON");
  command->add_option("--output", options->output, "Write to this file instead of standard output")->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  tqkv inspect pocket\n"
      "  tqkv inspect models/configs/qwen3.5-35b-a3b-4bit.json --prompt-tokens 32768 --generation-tokens 256\n"
      "  tqkv inspect models/configs/qwen3.5-35b-a3b-4bit.json --memory 30");
  command->callback([options] { inspect(*options); });
}

}  // namespace tqkv::cli

#include "measure/tune/tune.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/numbers.h"
#include "cli/commands/commands.h"
#include "cli/options/file_options.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "loaders/locate.h"
#include "tqkv/error.h"
#include "tqkv/model.h"
#include "tqkv/saved_session.h"

namespace tqkv::cli {

using namespace measure;

namespace {

constexpr const char* goal_group = "Goal: one of";

struct TuneArguments {
  ModelOptions model;
  std::string text, output, precision = "f32";
  std::optional<double> bits, kl;
  std::optional<std::uint64_t> bytes;
  int tokens = 2048;
  bool resume = false;
};

TuneOptions settings_of(const TuneArguments& options) {
  TuneOptions settings;
  settings.goal = {options.bits, options.bytes, options.kl};
  if (!options.bits && !options.bytes && !options.kl) settings.goal.bits = 4;
  settings.tokens = options.tokens;
  settings.precision = options.precision == "fast" ? Precision::fast : Precision::f32;
  settings.state = options.model.session().state;
  settings.prefill_chunk = options.model.prefill_chunk;
  std::string command = "tqkv tune " + options.model.model;
  if (settings.goal.bits) command += fmt::format(" --bits {}", *settings.goal.bits);
  if (options.bytes) command += fmt::format(" --bytes-per-token {}", *options.bytes);
  if (options.kl) command += fmt::format(" --kl {}", *options.kl);
  if (!options.text.empty()) command += " --text " + options.text;
  command += fmt::format(" --tokens {} --precision {}", options.tokens, options.precision);
  settings.command = std::move(command);
  return settings;
}

void write(const std::string& path, const Tuning& tuning) {
  OutputFile file(path);
  file.write(to_json(tuning));
  file.commit();
}

void tune(const TuneArguments& options) {
  if (options.resume) check_resumed(options.output);
  const std::filesystem::path directory = find_model(options.model.model);
  Checkpoint checkpoint = Checkpoint::open(directory);
  const Tokenizer tokenizer = load_tokenizer(checkpoint);
  EvaluationModel model;
  model.name = options.model.model;
  model.config = open_config(checkpoint);
  model.fingerprint = model_fingerprint(checkpoint);
  model.tokenizer = &tokenizer;
  const EvaluationText text = options.text.empty()
                                  ? EvaluationText{"the bundled text", read_text(locate_evaluation_text())}
                                  : EvaluationText{options.text, read_text_input(options.text)};
  Tuner tuner(std::move(model), text, settings_of(options));
  if (tuner.tuning().tokens < options.tokens)
    note(fmt::format("the text has only {} tokens of {}: half of it is measured on", 2 * tuner.tuning().tokens,
                     2 * options.tokens));
  if (!options.output.empty())
    const OutputFile probe(options.output);  // what cannot be written is known before the work
  DeviceOptions device = options.model.device();
  device.precision = tuner.tuning().options.precision;
  const Announcement announcement = admit(tuner.plan(checkpoint.tensor_bytes(), device), options.model, directory);
  const std::unique_ptr<Engine> engine = Engine::load(std::move(checkpoint), device);
  std::error_code error;
  if (options.resume && std::filesystem::exists(options.output, error)) {
    tuner.resume(options.output, read_text(options.output), engine->device());
    note(fmt::format("{}: continues after {} passes", options.output, tuner.tuning().measurements.size()));
  }
  note(fmt::format("reference logits: up to {} bytes among the temporary files, removed at the end",
                   grouped(tuner.storage())));
  Tuner::Callbacks callbacks;
  if (error_shows_status()) callbacks.progress = [](std::string_view line) { show_status(line); };
  callbacks.note = [](std::string_view line) {
    clear_status();
    note(std::string(line));
  };
  callbacks.measured = [&](const Tuning& so_far) {
    if (!options.output.empty() && options.output != "-") write(options.output, so_far);
  };
  const Tuning& tuning = tuner.run(*engine, callbacks);
  clear_status();
  if (!options.output.empty()) write(options.output, tuning);
  print_result(options.output, to_table(tuning));
}

}  // namespace

void add_tune(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<TuneArguments>();
  CLI::App* command = program.add_subcommand("tune", "Find the cache format that costs this model least");
  add_model_options(*command, options->model);
  for (const char* other : {"--precision", "--context"}) command->remove_option(command->get_option(other));
  const auto goal = [](CLI::Option* option) {
    option->group(goal_group);
    return option;
  };
  CLI::Option* bits = goal(
      command->add_option("--bits", options->bits, "As many bytes as turboquant of so many bits per value (default: 4)")
          ->transform(real_number(2, 8))
          ->type_name("X"));
  CLI::Option* bytes = goal(command->add_option("--bytes-per-token", options->bytes, "At most so many bytes per token")
                                ->transform(whole_number(1, max_count))
                                ->type_name("N"));
  CLI::Option* kl = goal(command->add_option("--kl", options->kl, "As few bytes as a mean KL of at most X allows, nats")
                             ->transform(real_number(1e-9, 100))
                             ->type_name("X"));
  bits->excludes(bytes)->excludes(kl);
  bytes->excludes(kl);
  command->add_option("--text", options->text, "Text to measure on (default: the bundled text); - is standard input")
      ->type_name("FILE");
  command->add_option("--tokens", options->tokens, "Tokens to measure on; as many after them are held out")
      ->transform(whole_number(512, max_count))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--precision", options->precision, "f32 (codecs alone) or fast (what a user gets)")
      ->check(CLI::IsMember({"f32", "fast"}))
      ->type_name("KIND")
      ->capture_default_str();
  command->add_option("--output", options->output, "JSON file, updated after each pass; - is standard output")
      ->type_name("FILE");
  command->add_flag("--resume", options->resume, "Continue the file of --output: skip the passes that it has");
  command->footer(
      "Each layer's keys and values are compressed alone, at every number of bits, and the loss is measured. Then "
      "bits\n"
      "go where they take away most of it. The result is checked on a text that had no part in the choice. The last\n"
      "lines have the format for --backend.\n\n"
      "The text should be like what the model is used for. --resume also works with another goal: what was measured\n"
      "is used again.\n\n"
      "Examples:\n"
      "  tqkv tune pocket --bits 4\n"
      "  tqkv tune mlx-community/Qwen3.5-35B-A3B-4bit --bits 3 --text notes.txt --output tuning.json");
  command->callback([options] { tune(*options); });
}

}  // namespace tqkv::cli

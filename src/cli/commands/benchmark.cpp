#include "measure/benchmark/benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "cli/commands/commands.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "tqkv/error.h"
#include "tqkv/model.h"

namespace tqkv::cli {

using namespace measure;

namespace {

struct BenchmarkArguments {
  ModelOptions model;
  CacheOptions cache;
  BenchmarkOptions benchmark;
  std::vector<int> sessions;  // empty: one session at a time
  std::uint64_t seed = 0;
  std::string text, output;
};

std::vector<int> ids_of(const BenchmarkArguments& options, const Checkpoint& checkpoint, int vocabulary, int needed,
                        std::string& source) {
  const Tokenizer tokenizer = load_tokenizer(checkpoint);
  if (options.text.empty()) {
    source = fmt::format("random ids, seed {}", options.seed);
    return random_ids(tokenizer, vocabulary, options.seed, needed);
  }
  source = fmt::format("text {}", options.text);
  return tokenizer.encode(read_text_input(options.text), ControlStrings::plain);
}

/// Loads the model where the largest plan fits, runs with so many ids, writes JSON to --output and prints the table.
template <class Settings, class Run>
void measure(const BenchmarkArguments& options, Settings& settings, const std::vector<MemoryPlan>& plans,
             Checkpoint checkpoint, const Run& run) {
  const auto largest = std::max_element(plans.begin(), plans.end(), [](const MemoryPlan& a, const MemoryPlan& b) {
    return a.anonymous() < b.anonymous();
  });
  const Announcement announcement = admit(*largest, options.model, checkpoint.directory());
  const std::vector<int> ids =
      ids_of(options, checkpoint, open_config(checkpoint).vocab_size, ids_needed(settings), settings.ids);
  std::optional<OutputFile> file;  // opened first: a folder that cannot be written is known before the work
  if (!options.output.empty()) file.emplace(options.output);
  const std::unique_ptr<Engine> engine = Engine::load(std::move(checkpoint), shown_device(options.model));
  const auto report = run(*engine, ids, settings);
  clear_status();
  note_device(*engine, options.model.device().precision);
  if (file) {
    file->write(to_json(report));
    file->commit();
  }
  print_result(options.output, to_table(report));
}

/// One value of an option that lists several where sessions run one at a time.
int only(const char* option, const std::vector<int>& values) {
  if (values.size() == 1) return values.front();
  throw Error(ErrorKind::usage, fmt::format("{}: --sessions needs one number, {} were given", option, values.size()));
}

/// What every kind of benchmark takes from the options.
template <class Settings>
void set_common(const BenchmarkArguments& options, Settings& settings) {
  settings.formats = options.cache.formats();
  settings.model = options.model.model;
  settings.state = options.model.session().state;
  settings.prefill_chunk = options.model.prefill_chunk;
  if (error_shows_status()) settings.progress = [](std::string_view line) { show_status(line); };
}

void benchmark_sessions(const BenchmarkArguments& options) {
  SessionsOptions sessions;
  set_common(options, sessions);
  sessions.sessions = options.sessions;
  sessions.depth = only("--prompt-tokens", options.benchmark.prompt_tokens);
  sessions.steps = only("--generation-tokens", options.benchmark.generation_tokens);
  sessions.trials = options.benchmark.trials;
  Checkpoint checkpoint = Checkpoint::open(find_model(options.model.model));
  const auto plans =
      plan_sessions(open_config(checkpoint), checkpoint.tensor_bytes(), options.model.device(), sessions);
  measure(options, sessions, plans, std::move(checkpoint), run_sessions);
}

void benchmark(BenchmarkArguments& options) {
  if (!options.sessions.empty()) return benchmark_sessions(options);
  BenchmarkOptions& benchmark = options.benchmark;
  set_common(options, benchmark);
  benchmark.context = options.model.context;
  Checkpoint checkpoint = Checkpoint::open(find_model(options.model.model));
  const auto plans =
      plan_benchmark(open_config(checkpoint), checkpoint.tensor_bytes(), options.model.device(), benchmark);
  measure(options, benchmark, plans, std::move(checkpoint), run_benchmark);
}

}  // namespace

void add_benchmark(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<BenchmarkArguments>();
  CLI::App* command = program.add_subcommand("benchmark", "Measure speed, memory and agreement of cache formats");
  add_model_options(*command, options->model);
  BenchmarkOptions& benchmark_options = options->benchmark;
  const auto lengths = [&](const char* flag, std::vector<int>& values, int least, const char* help,
                           const char* preset) {
    command->add_option(flag, values, help)
        ->transform(whole_number(least, 1 << 24))
        ->delimiter(',')
        ->type_name("N,...")
        ->default_str(preset);
  };
  lengths("--prompt-tokens", benchmark_options.prompt_tokens, 1, "Prompt lengths in tokens, separated by commas",
          "2048");
  lengths("--generation-tokens", benchmark_options.generation_tokens, 1,
          "Tokens to generate; use 128 or more to measure decode speed", "128");
  lengths("--depth", benchmark_options.depths, 0, "Tokens already in the cache before the prompt", "0");
  command->add_option("--trials", benchmark_options.trials, "Timed runs of each backend, after one warm-up")
      ->transform(whole_number(1, 10'000))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of the random ids")
      ->transform(whole_number(0, UINT64_MAX))
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--text", options->text,
                   "Take the tokens from this text instead of random ids; - reads standard input")
      ->type_name("FILE");
  command->add_flag("--check", benchmark_options.check,
                    "Measure agreement with baseline even if it is not among the backends");
  CLI::Option* sessions =
      command
          ->add_option(
              "--sessions", options->sessions,
              "Decode with so many sessions in one step, each with its own prompt, and print tokens per second "
              "of all together")
          ->transform(whole_number(1, 256))
          ->delimiter(',')
          ->type_name("N,...");
  for (const char* other : {"--depth", "--check", "--context"}) sessions->excludes(other);
  command->add_option("--output", options->output, "Write every sample to this JSON file; - is standard output")
      ->type_name("FILE");
  add_cache_options(*command, options->cache, true);
  command->footer(
      "Examples:\n"
      "  tqkv benchmark pocket --backend baseline,mlx_quant,turboquant --prompt-tokens 2048 --generation-tokens 128\n"
      "  tqkv benchmark pocket --backend turboquant --kv-bits 3 --depth 0,8192 --check --output results/t3.json\n"
      "  tqkv benchmark pocket --sessions 1,2,4,8 --prompt-tokens 256 --generation-tokens 32");
  command->callback([options] { benchmark(*options); });
}

}  // namespace tqkv::cli

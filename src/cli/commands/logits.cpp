#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/commands/commands.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/input.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "loaders/safetensors.h"
#include "tqkv/error.h"
#include "tqkv/model.h"
#include "tqkv/version.h"

namespace tqkv::cli {
namespace {

using nlohmann::json;

struct LogitsArguments {
  ModelOptions model;
  CacheOptions cache;
  std::string ids, output;
  int last = 0;  // rows; 0: all
};

std::vector<int> read_ids(const std::string& path, int vocabulary) {
  const std::string where = path == "-" ? "standard input" : path;
  const json array = json::parse(read_json_input(path), nullptr, false);
  if (!array.is_array()) throw Error(ErrorKind::input, fmt::format("{}: one JSON array of ids was expected", where));
  if (array.empty()) throw Error(ErrorKind::input, fmt::format("{}: the array of ids is empty", where));
  std::vector<int> ids;
  for (const json& value : array) {
    const bool in_range =
        value.is_number_unsigned() && value.get<std::uint64_t>() < static_cast<std::uint64_t>(vocabulary);
    if (!in_range)
      throw Error(ErrorKind::input, fmt::format("{}: entry {} is {}, ids are whole numbers from 0 to {}", where,
                                                ids.size(), value.dump().substr(0, 40), vocabulary - 1));
    ids.push_back(value.get<int>());
  }
  return ids;
}

std::string header(const Session& session, const Engine& engine, std::size_t rows, std::size_t first_row) {
  const NamedShape tensors[] = {{"logits", DType::f32, {static_cast<std::int64_t>(rows), engine.config().vocab_size}}};
  return safetensors_header(tensors, {{"tool", fmt::format("tqkv {}", version)},
                                      {"kv_format", session.cache().format.canonical()},
                                      {"precision", std::string(name(engine.device().precision))},
                                      {"state", std::string(name(session.cache().state))},
                                      {"device", engine.device().device.canonical()},
                                      {"first_row", fmt::format("{}", first_row)}});
}

void logits(const LogitsArguments& options) {
  const KvFormat format = options.cache.format();
  Model model(Checkpoint::open(find_model(options.model.model)));
  const ModelConfig& config = model.config();
  const std::vector<int> ids = read_ids(options.ids, config.vocab_size);
  const int tokens = static_cast<int>(ids.size());
  if (options.last > tokens)
    throw Error(ErrorKind::input,
                fmt::format("--last: {} rows were asked for, but there are {} ids", options.last, tokens));

  const Loaded loaded =
      load(model, options.model, format, context_for(options.model, config, tokens, 0), {tokens, nullptr, true});
  Session& session = *loaded.session;
  const auto first = static_cast<std::size_t>(options.last > 0 ? tokens - options.last : 0);
  const std::size_t rows = ids.size() - first;
  const auto vocabulary = static_cast<std::size_t>(config.vocab_size);

  OutputFile file(options.output);
  file.write(header(session, model.engine(), rows, first));
  const Interrupt interrupt;
  std::size_t written = 0;
  PrefillOptions prefill;
  prefill.first_row = static_cast<int>(first);
  prefill.rows = [&](int row, std::span<const float> values) {
    if (static_cast<std::size_t>(row) != first + written || values.size() != vocabulary)
      throw Error(ErrorKind::internal, fmt::format("logits: row {} came where {} was due", row, first + written));
    file.write(std::as_bytes(values));
    ++written;
  };
  prefill.progress = [&](int done) {
    show_prompt(done, tokens);
    return !interrupt.requested();
  };
  prefill.stop = interrupt.flag();
  const bool whole = !session.prefill(ids, prefill).empty();
  if (!whole && written < rows) {
    note("interrupted: nothing was written");
    throw CLI::RuntimeError(interrupted_exit_code);
  }
  if (written != rows) throw Error(ErrorKind::internal, fmt::format("logits: {} rows of {} came", written, rows));
  file.commit();
  note(fmt::format("{}: logits [{}, {}] of {}", options.output, rows, vocabulary, describe_cache(session.cache())));
}

}  // namespace

void add_logits(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<LogitsArguments>();
  CLI::App* command = program.add_subcommand("logits", "Write the logits of a list of token ids to a safetensors file");
  add_model_options(*command, options->model);
  command->add_option("--ids", options->ids, "JSON array of ids; - reads standard input")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--output", options->output,
                   "File to write: one tensor, logits, f32 [tokens, vocab]; - is standard output")
      ->required()
      ->type_name("FILE");
  command->add_option("--last", options->last, "Write only the last N rows (default: all)")
      ->transform(whole_number(1, max_count))
      ->type_name("N");
  add_cache_options(*command, options->cache, false);
  command->footer(
      "Examples:\n"
      "  echo '\"Hello world\"' | tqkv tokenize pocket > ids.json\n"
      "  tqkv logits pocket --ids ids.json --output logits.safetensors --backend baseline --precision f32");
  command->callback([options] { logits(*options); });
}

}  // namespace tqkv::cli

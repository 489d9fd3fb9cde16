#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands/commands.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

using nlohmann::json;

struct TokenizeArguments {
  std::string model, file;
  bool plain = false;
};

[[noreturn]] void refuse(const Lines& lines, std::string_view expected) {
  throw Error(ErrorKind::input, fmt::format("{}: line {}: {} was expected", lines.name(), lines.number(), expected));
}

std::vector<int> ids_of(const Lines& lines, const json& array) {
  std::vector<int> ids;
  for (const json& value : array) {
    const bool whole =
        value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() <= 0x7fffffffu);
    const std::int64_t id = whole ? value.get<std::int64_t>() : -1;
    if (id < 0 || id > std::numeric_limits<int>::max()) refuse(lines, "an array of ids from 0");
    ids.push_back(static_cast<int>(id));
  }
  return ids;
}

void tokenize(const TokenizeArguments& options) {
  const Tokenizer tokenizer =
      load_tokenizer(Checkpoint::open_without_weights(find_model(options.model, Needs::no_weights)));
  const ControlStrings control = options.plain ? ControlStrings::plain : ControlStrings::parse;
  Lines lines(options.file);
  for (std::string line; lines.next(line);) {
    const json text = json::parse(line, nullptr, false);
    if (!text.is_string()) refuse(lines, "one JSON string");
    print(fmt::format("[{}]\n", fmt::join(tokenizer.encode(text.get_ref<const std::string&>(), control), ", ")));
  }
}

void detokenize(const TokenizeArguments& options) {
  const Tokenizer tokenizer =
      load_tokenizer(Checkpoint::open_without_weights(find_model(options.model, Needs::no_weights)));
  Lines lines(options.file);
  for (std::string line; lines.next(line);) {
    const json array = json::parse(line, nullptr, false);
    if (!array.is_array()) refuse(lines, "one JSON array of ids");
    const std::vector<int> ids = ids_of(lines, array);
    for (const int id : ids)
      if (id >= tokenizer.size()) refuse(lines, fmt::format("ids from 0 to {}", tokenizer.size() - 1));
    print(json(tokenizer.decode(ids)).dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  }
}

CLI::App* add(CLI::App& program, const char* name, const char* help, TokenizeArguments& options) {
  CLI::App* command = program.add_subcommand(name, help);
  add_model_argument(*command, options.model);
  command->add_option("--file", options.file, "Read this file instead of standard input")->type_name("FILE");
  return command;
}

}  // namespace

void add_tokenize(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<TokenizeArguments>();
  CLI::App* command = add(program, "tokenize", "Convert text to token ids, one JSON string per line", *options);
  command->add_flag("--plain", options->plain, "Treat control strings such as <|im_end|> as plain text");
  command->footer("Examples:\n  echo '\"Hello world\"' | tqkv tokenize pocket");
  command->callback([options] { tokenize(*options); });

  const auto back = std::make_shared<TokenizeArguments>();
  command = add(program, "detokenize", "Convert token ids to text, one JSON array per line", *back);
  command->footer("Examples:\n  echo '\"Hello world\"' | tqkv tokenize pocket | tqkv detokenize pocket");
  command->callback([back] { detokenize(*back); });
}

}  // namespace tqkv::cli

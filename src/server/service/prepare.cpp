#include "server/service/prepare.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/error_text.h"
#include "cache/accounting.h"
#include "runtime/devices.h"
#include "tqkv/grammar.h"
#include "tqkv/turns.h"

namespace tqkv::server {
namespace {

/// The field that a problem begins with, as in "messages[2].tool_calls: …"; else the one that was asked about.
std::string_view field_of(std::string_view problem, std::string_view asked) {
  const std::string_view name = problem.substr(0, problem.find(':'));
  for (const std::string_view known : {"messages[", "tools"})
    if (name.starts_with(known) && name.find(' ') == std::string_view::npos) return name;
  return asked;
}

/// What the library says of something that a request asked for.
template <class Action>
auto of_field(std::string_view field, const Action& action) {
  try {
    return action();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) throw;
    const std::string_view problem = problem_of(error);
    throw bad_request(field_of(problem, field), std::string(problem));
  }
}

ChatOptions chat_options(const Request& request) {
  ChatOptions options;
  options.think = request.think;
  options.preserve_thinking = request.preserve_thinking;
  options.add_generation_prompt = !request.continues;
  return options;
}

/// The pieces without the end of the last turn, which the answer continues.
std::vector<ChatPiece> open_last(std::vector<ChatPiece> pieces) {
  static constexpr std::string_view end = "<|im_end|>";
  while (!pieces.empty()) {
    std::string& last = pieces.back().text;
    const std::size_t at = pieces.back().control ? last.rfind(end) : std::string::npos;
    if (at == std::string::npos) {
      if (pieces.back().control && last.find_first_not_of('\n') == std::string::npos) {
        pieces.pop_back();
        continue;
      }
      break;
    }
    last.resize(at);
    if (last.empty()) pieces.pop_back();
    break;
  }
  return pieces;
}

std::vector<int> raw_ids(const Model& model, const std::variant<PromptText, PromptIds>& prompt) {
  if (const auto* text = std::get_if<PromptText>(&prompt))
    return model.tokenizer().encode(*text, ControlStrings::parse);
  std::vector<int> ids = std::get<PromptIds>(prompt);
  for (const int id : ids)
    if (id < 0 || id >= model.config().vocab_size)
      throw bad_request("prompt", fmt::format("the id {} is not between 0 and {}", id, model.config().vocab_size - 1));
  return ids;
}

KvFormat format_of(const Model& model, const ServeSettings& settings, const Request& request) {
  if (request.cache.empty()) return settings.format;
  return of_field("tqkv.cache", [&] {
    KvFormat format = KvFormat::parse(request.cache);
    const DeviceReport device = model.engine().device();
    check_format(kind_of(device.device), model.config(), cache::as_stored(format, device.precision));
    return format;
  });
}

void hold(const Model& model, const Request& request, GenerateOptions& options) {
  if (request.tool_choice == ToolChoice::required || request.tool_choice == ToolChoice::named) {
    options.grammar = of_field("tools", [&] {
      return Grammar::tool_calls(
          request.tools(),
          request.tool_choice == ToolChoice::named ? std::optional<std::string_view>(request.tool_name) : std::nullopt,
          request.parallel_tool_calls);
    });
  } else if (request.format == ResponseFormat::json_object) {
    options.grammar = Grammar::json_object();
  } else if (request.format == ResponseFormat::json_schema) {
    options.grammar = of_field("response_format", [&] { return Grammar::json_schema(request.schema); });
  }
  if (options.grammar) options.vocabulary = model.vocabulary();
}

GenerateOptions options_of(const Model& model, const ServeSettings& settings, const Request& request,
                           std::uint64_t seed) {
  const bool raw = !std::holds_alternative<Conversation>(request.prompt);
  GenerateOptions options = of_field("temperature", [&] {
    Sampling sampling = request.sampling.over(model.defaults().sampling);
    sampling.seed = request.seed.value_or(seed);
    for (const auto& [id, bias] : request.logit_bias) {
      if (id >= model.config().vocab_size) throw bad_request("logit_bias", fmt::format("there is no token {}", id));
      sampling.logit_bias[id] = bias;
    }
    check(sampling);
    return model.generate_options(sampling, raw);
  });
  options.weights = 0;
  options.cuts = model.cuts(settings.piece);
  options.max_tokens = request.max_tokens.value_or(0);
  options.stop_strings = request.stop;
  if (!request.parallel_tool_calls && !request.tools().empty() && request.tool_choice == ToolChoice::automatic)
    options.stop_strings.emplace_back(end_of_call);
  if (request.ignore_eos) options.stop_ids.clear();
  if (!raw && !request.continues)
    options.opens_thinking = model.chat(settings.markup).opens_thinking(chat_options(request));
  hold(model, request, options);
  return options;
}

}  // namespace

std::vector<int> chat_ids(const Model& model, const ServeSettings& settings, const Request& request) {
  return of_field("messages", [&] {
    std::vector<ChatPiece> pieces =
        model.chat(settings.markup).render(std::get<Conversation>(request.prompt), chat_options(request));
    if (request.continues) pieces = open_last(std::move(pieces));
    return encode(model.tokenizer(), pieces);
  });
}

std::vector<std::shared_ptr<Job>> prepare(const Model& model, const ServeSettings& settings, const Request& request,
                                          std::uint64_t seed) {
  std::vector<std::vector<int>> prompts;
  if (std::holds_alternative<Conversation>(request.prompt)) {
    prompts.push_back(chat_ids(model, settings, request));
  } else {
    const auto* text = std::get_if<PromptText>(&request.prompt);
    prompts.push_back(raw_ids(model, text ? std::variant<PromptText, PromptIds>(*text)
                                          : std::variant<PromptText, PromptIds>(std::get<PromptIds>(request.prompt))));
    for (const auto& more : request.more_prompts) prompts.push_back(raw_ids(model, more));
  }
  const GenerateOptions options = options_of(model, settings, request, seed);
  const KvFormat format = format_of(model, settings, request);
  std::vector<std::shared_ptr<Job>> jobs;
  for (std::vector<int>& prompt : prompts) {
    if (prompt.empty()) throw bad_request("prompt", "it has no tokens");
    const int tokens = static_cast<int>(prompt.size());
    if (tokens >= settings.context) throw too_long(tokens, settings.context);
    auto job = std::make_shared<Job>();
    job->prompt = std::move(prompt);
    job->format = format;
    job->options = options;
    job->choices = request.n;
    job->top_logprobs = request.top_logprobs;
    job->exact = request.exact || settings.exact;
    jobs.push_back(std::move(job));
  }
  return jobs;
}

}  // namespace tqkv::server

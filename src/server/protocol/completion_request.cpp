// The bodies of /v1/completions, /tokenize and /detokenize.
#include <fmt/format.h>

#include <limits>

#include "server/protocol/request.h"
#include "server/protocol/request_parts.h"

namespace tqkv::server {
namespace {

bool is_id(const Json& value) {
  const std::optional<std::int64_t> number = whole(value);
  return number && *number >= 0 && *number <= std::numeric_limits<int>::max();
}

PromptIds read_ids(const Json& list, const std::string& where) {
  PromptIds ids;
  ids.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!is_id(list[i])) throw bad_request(where, fmt::format("{}[{}] must be the id of a token.", where, i));
    ids.push_back(static_cast<int>(*whole(list[i])));
  }
  return ids;
}

/// A text, ids, or an array of either.
std::vector<std::variant<PromptText, PromptIds>> read_prompts(const Json& prompt, const std::string& where) {
  if (prompt.is_string()) return {prompt.get<std::string>()};
  if (!prompt.is_array() || prompt.empty())
    throw bad_request(where, fmt::format("{} must be a text, ids of tokens or an array of either, not {}.", where,
                                         prompt.is_array() ? "an empty array" : kind_of(prompt)));
  if (prompt[0].is_number()) return {read_ids(prompt, where)};
  if (prompt.size() > static_cast<std::size_t>(most_choices))
    throw bad_request(where, fmt::format("{} has {} prompts; {} is the most.", where, prompt.size(), most_choices));
  std::vector<std::variant<PromptText, PromptIds>> prompts;
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", where, i);
    if (prompt[i].is_string()) {
      prompts.emplace_back(prompt[i].get<std::string>());
    } else if (prompt[i].is_array()) {
      prompts.emplace_back(read_ids(prompt[i], at));
    } else {
      throw bad_request(at, fmt::format("{} must be a text or ids of tokens, not {}.", at, kind_of(prompt[i])));
    }
  }
  return prompts;
}

}  // namespace

Request parse_completion(std::string_view body) {
  const Json top = parse_json(body);
  Fields fields(top);
  Request request;
  request.model = fields.text("model").value_or("");
  const Json* prompt = fields.get("prompt");
  if (!prompt) fields.wrong("prompt", "a text, ids of tokens or an array of either");
  std::vector<std::variant<PromptText, PromptIds>> prompts = read_prompts(*prompt, "prompt");
  std::visit([&](auto& first) { request.prompt = std::move(first); }, prompts[0]);
  prompts.erase(prompts.begin());
  request.more_prompts = std::move(prompts);

  request.max_tokens = read_max_tokens(fields, "max_tokens");
  request.n = static_cast<int>(fields.integer("n", 1, most_choices).value_or(1));
  const std::size_t choices = static_cast<std::size_t>(request.n) * (1 + request.more_prompts.size());
  if (choices > static_cast<std::size_t>(most_choices))
    throw bad_request("n", fmt::format("n times the prompts is {}; {} is the most.", choices, most_choices));
  const std::int64_t best_of = fields.integer("best_of", 1, 20).value_or(request.n);
  if (best_of != request.n)
    throw bad_request("best_of", "best_of is not supported: no more choices are made than are given back.");
  read_sampling(fields, request);
  read_stop(fields, "stop", request);
  read_logit_bias(fields, request);
  read_stream(fields, request);
  read_tqkv(fields, request);
  if (const auto logprobs = fields.integer("logprobs", 0, 20)) request.top_logprobs = static_cast<int>(*logprobs);
  request.echo = fields.boolean("echo").value_or(false);
  if (request.echo && request.top_logprobs)
    throw bad_request("echo", "echo with logprobs is not supported: a prompt's tokens have none here.");
  if (!fields.text("suffix").value_or("").empty())
    throw bad_request("suffix", "suffix is not supported: the model writes what follows a prompt.");
  read_format(fields, "response_format", true, request);
  refuse_foreign_grammars(fields);
  fields.skip({"user", "metadata"});
  note_unread(fields, request);
  return request;
}

std::string parse_tokenize(std::string_view body) {
  const Json top = parse_json(body);
  return Fields(top).required_text("content");
}

std::vector<int> parse_detokenize(std::string_view body) {
  const Json top = parse_json(body);
  Fields fields(top);
  const Json* tokens = fields.array("tokens");
  if (!tokens) fields.wrong("tokens", "an array of ids");
  return read_ids(*tokens, "tokens");
}

}  // namespace tqkv::server

// The body of a request: every endpoint refuses it with an ApiError that can be sent, or reads it into something that
// the chat template takes or refuses with an Error.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "base/utf8.h"
#include "server/protocol/answer.h"
#include "server/protocol/request.h"
#include "tqkv/error.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;

/// Whether `parse` took the body.
template <typename Parse>
bool takes(const Parse& parse, const std::string& body) {
  try {
    parse(body);
    return true;
  } catch (const ApiError& error) {
    if (error.status != 400 || !valid_utf8(error.what()) || std::string(error.what()).size() > 2000) __builtin_trap();
    if (!nlohmann::json::parse(openai_error(error)).contains("error")) __builtin_trap();
    if (!nlohmann::json::parse(anthropic_error(error)).contains("error")) __builtin_trap();
    return false;
  }
}

void use(const Request& request, Endpoint endpoint) {
  if (request.n < 1 || request.n > most_choices || request.stop.size() > 16) __builtin_trap();
  if (request.ignored.size() > 20 || request.skipped_tools.size() > 20) __builtin_trap();
  check(request.sampling.over({}));
  if (const Conversation* conversation = std::get_if<Conversation>(&request.prompt)) {
    try {
      ChatTemplate(ChatVariant::qwen3_6).render(*conversation, {});
    } catch (const Error&) {
    }
  }
  const auto writer = AnswerWriter::make(endpoint, head_of(request, "1", 1, request.model));
  writer->begin({});
  for (int i = 0; i < writer->head().n; ++i) writer->finish(i, Ending::end_of_turn);
  if (writer->end({}, {}).empty()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  takes([](const std::string& text) { use(parse_chat(text), Endpoint::chat); }, body);
  takes([](const std::string& text) { use(parse_completion(text), Endpoint::completion); }, body);
  takes([](const std::string& text) { use(parse_responses(text), Endpoint::responses); }, body);
  const bool message = takes([](const std::string& text) { use(parse_messages(text), Endpoint::messages); }, body);
  const bool count = takes(parse_count_tokens, body);
  if (message && !count) __builtin_trap();
  takes(parse_tokenize, body);
  takes(parse_detokenize, body);
  return 0;
}

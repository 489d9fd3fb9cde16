// Whole streams, from the text of a model to the bytes on the wire. tests/server/streams has them; clients-test gives
// the same files to the packages that most programs use. With TQKV_WRITE_STREAMS set, the files are written anew.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/utf8.h"
#include "server/answer_head.h"
#include "server/protocol/answer.h"
#include "server/protocol/tool_splitter.h"
#include "support/places.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;

const std::string tools =
    R"([{"type":"function","function":{"name":"weather","parameters":{"properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}])";
const AnswerReport report{"turboquant:k4v4", 18446744073709551615u, 100.0, 12.5, 0.25, Reuse{1180, 1204}};

AnswerHead head(bool stream) {
  return tqkv::test::answer_head(stream, test::plain_request, 1700000000);
}

/// An answer that thinks, speaks and calls twice, four characters at a time.
std::string agent(Endpoint endpoint, bool stream) {
  AnswerHead given = head(stream);
  given.include_usage = true;
  const auto writer = AnswerWriter::make(endpoint, given);
  std::string out = writer->heartbeat();
  out += writer->begin({1200, 1180});
  out += writer->heartbeat();
  out += writer->thinking(0, "The user ");
  out += writer->thinking(0, "asks for Zürich.");
  const std::string text =
      "I look it up. 🌤\n\n<tool_call>\n<function=weather>\n<parameter=city>\nZürich \"Ost\"\n</parameter>\n"
      "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
      "<tool_call>\n<function=time>\n</function>\n</tool_call>";
  ToolSplitter splitter(tools);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    for (int i = 0; i < 4 && at < text.size(); ++i) at += next_character(text, at).length;
    out += write(*writer, 0, splitter.feed(std::string_view(text).substr(begin, at - begin)));
  }
  out += write(*writer, 0, splitter.finish());
  out += writer->finish(0, Ending::end_of_turn);
  return out + writer->end({1200, 1180, 60, 12}, report);
}

/// Two choices with the logprobs of their tokens.
std::string choices(Endpoint endpoint, bool stream) {
  AnswerHead given = head(stream);
  given.n = 2;
  given.logprobs = true;
  const auto writer = AnswerWriter::make(endpoint, given);
  std::string out = writer->begin({8, 0});
  out += writer->text(1, "No", {{"No", -1.5, {{"Yes", -0.5}, {"No", -1.5}}}});
  out += writer->text(0, "Yes", {{"Yes", -0.5, {{"Yes", -0.5}, {"No", -1.5}}}});
  out += writer->text(1, " é", {{" \xc3", -0.25, {}}, {"\xa9", -0.125, {}}});
  out += writer->finish(0, Ending::max_tokens);
  out += writer->finish(1, Ending::stop_string, "\n");
  return out + writer->end({8, 0, 4, 0}, report);
}

std::string broken(Endpoint endpoint) {
  const auto writer = AnswerWriter::make(endpoint, head(true));
  std::string out = writer->begin({8, 0});
  out += writer->text(0, "Ye");
  return out + writer->fail(ApiError(500, "server_error", "The memory guard stopped the answer."));
}

void check(const std::string& name, const std::string& bytes) {
  CAPTURE(name);
  const std::filesystem::path path = std::filesystem::path(test::source_dir()) / "tests/server/streams" / name;
  if (std::getenv("TQKV_WRITE_STREAMS")) std::ofstream(path, std::ios::binary) << bytes;
  std::ifstream file(path, std::ios::binary);
  const std::string expected{std::istreambuf_iterator<char>(file), {}};
  CHECK(bytes == expected);
}

TEST_CASE("an answer with thinking and calls has the same bytes as ever") {
  check("chat.sse", agent(Endpoint::chat, true));
  check("chat.json", agent(Endpoint::chat, false));
  check("responses.sse", agent(Endpoint::responses, true));
  check("responses.json", agent(Endpoint::responses, false));
  check("messages.sse", agent(Endpoint::messages, true));
  check("messages.json", agent(Endpoint::messages, false));
}

TEST_CASE("choices with logprobs have the same bytes as ever") {
  check("chat_choices.sse", choices(Endpoint::chat, true));
  check("chat_choices.json", choices(Endpoint::chat, false));
  check("completion.sse", choices(Endpoint::completion, true));
  check("completion.json", choices(Endpoint::completion, false));
}

TEST_CASE("a stream that fails has the same bytes as ever") {
  check("chat_error.sse", broken(Endpoint::chat));
  check("responses_error.sse", broken(Endpoint::responses));
  check("messages_error.sse", broken(Endpoint::messages));
}

}  // namespace

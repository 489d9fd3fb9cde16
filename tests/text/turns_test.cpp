// How turns meet a text that is there already.
#include "tqkv/turns.h"

#include <doctest/doctest.h>

#include <string>

#include "support/failure.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

std::vector<ChatPiece> question(const std::string& text, bool asks = true) {
  ChatOptions options;
  options.add_generation_prompt = asks;
  return ChatTemplate::named("chatml")->render(user_message(text), options);
}

TEST_CASE("a turn after an answer begins with what the answer lacks of its end") {
  const std::string turn = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n";
  CHECK(text_of(question("Why?")).starts_with(turn));
  CHECK(text_of(next_turns(question("Why?"), true)).starts_with("\n" + turn));
  const std::vector<ChatPiece> after_cut = next_turns(question("Why?"), false);
  CHECK(text_of(after_cut).starts_with("<|im_end|>\n" + turn));
  CHECK(after_cut.front().control);
}

TEST_CASE("a text that is stored and its question together are one turn") {
  const std::vector<ChatPiece> stored = open_turns(question("Notes.", false)), asked = rest_of_turn(question("Why?"));
  CHECK(text_of(stored) == "<|im_start|>user\nNotes.\n\n");
  CHECK(text_of(stored) + text_of(asked) == text_of(question("Notes.\n\nWhy?")));
}

TEST_CASE("a stored conversation and the turn after it are one conversation") {
  const std::vector<ChatPiece> stored = closed_turns(question("Hi", false));
  CHECK(text_of(stored) == "<|im_start|>user\nHi<|im_end|>");
  CHECK(text_of(stored) + text_of(next_turns(question("Why?"), true)) ==
        text_of(question("Hi", false)) + text_of(question("Why?")));
}

TEST_CASE("what is no turn is a defect") {
  failure(ErrorKind::internal, [] { rest_of_turn({{"text", false}}); });
  failure(ErrorKind::internal, [] { closed_turns(question("Hi")); });
  failure(ErrorKind::internal, [] { open_turns({}); });
}

TEST_CASE("a system message comes before the question, and broken bytes of both are counted") {
  int replaced = 0;
  const Conversation conversation = user_message("a\xff", "b\xfe\xfe", &replaced);
  CHECK(replaced == 3);
  CHECK(text_of(ChatTemplate::named("chatml")->render(conversation, {}))
            .starts_with("<|im_start|>system\nb\uFFFD\uFFFD<|im_end|>\n<|im_start|>user\na\uFFFD<|im_end|>\n"));
}

}  // namespace

#include "tqkv/tokenizer.h"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "files.h"
#include "text/splitter.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "tqkv/chat.h"

using namespace tqkv;
using tqkv::test::pocket;

namespace {

using Ids = std::vector<int>;

std::vector<std::string> pieces(const text::Splitter& splitter, std::string_view text) {
  std::vector<std::string> result;
  std::size_t begin = 0;
  for (const std::size_t end : splitter.ends(text)) {
    result.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return result;
}

const text::Splitter& qwen_splitter() {
  static const text::Splitter splitter(
      nlohmann::json::parse(test::source_text("models/pocket/tokenizer_config.json"))["pretokenize_regex"]
          .get<std::string>(),
      "pattern");
  return splitter;
}

std::string random_text() {
  const std::u32string all = *rc::gen::container<std::u32string>(rc::gen::map(
      rc::gen::oneOf(rc::gen::inRange<std::uint32_t>(0, 0x80), rc::gen::inRange<std::uint32_t>(0x80, 0x1200),
                     rc::gen::inRange<std::uint32_t>(0x300, 0x370), rc::gen::inRange<std::uint32_t>(0x1100, 0x1200),
                     rc::gen::inRange<std::uint32_t>(0, 0x110000)),
      [](std::uint32_t c) { return static_cast<char32_t>(c >= 0xd800 && c < 0xe000 ? c - 0x800 : c); }));
  std::string text;
  for (const char32_t c : all) text::append_character(text, static_cast<std::uint32_t>(c));
  return text;
}

/// The header and one tensor of ids of the reference file.
struct Reference {
  std::string bytes = test::source_text("tests/golden/pocket-reference.safetensors");
  std::uint64_t header_size = 0;
  nlohmann::json header;

  Reference() {
    std::memcpy(&header_size, bytes.data(), sizeof header_size);
    header = nlohmann::json::parse(bytes.substr(8, header_size));
  }
  Ids ids(const std::string& name) const {
    const auto& tensor = header.at(name);
    REQUIRE(tensor.at("dtype") == "I32");
    const auto begin = tensor.at("data_offsets")[0].get<std::size_t>(),
               end = tensor.at("data_offsets")[1].get<std::size_t>();
    Ids result((end - begin) / 4);
    std::memcpy(result.data(), bytes.data() + 8 + header_size + begin, end - begin);
    return result;
  }
};

}  // namespace

TEST_CASE("texts get the ids that Hugging Face gives them, control strings parsed and plain") {
  const auto vectors = test::golden("pocket-tokenizer-vectors.json");
  REQUIRE(vectors["texts"].size() > 150);
  for (const auto& entry : vectors["texts"]) {
    const auto text = entry["text"].get<std::string>();
    CAPTURE(text);
    CHECK(pocket().encode(text, ControlStrings::parse) == entry["parsed"].get<Ids>());
    CHECK(pocket().encode(text, ControlStrings::plain) == entry["plain"].get<Ids>());
  }
}

TEST_CASE("invalid UTF-8 becomes U+FFFD, and the replacements are counted") {
  const auto vectors = test::golden("pocket-tokenizer-vectors.json");
  REQUIRE(vectors["invalid"].size() > 20);
  for (const auto& entry : vectors["invalid"]) {
    std::string bytes;
    for (const auto& byte : entry["bytes"]) bytes.push_back(static_cast<char>(byte.get<std::uint8_t>()));
    int replaced = -1;
    CHECK(pocket().encode(bytes, ControlStrings::parse, &replaced) == entry["parsed"].get<Ids>());
    CHECK(replaced == entry["replaced"].get<int>());
  }
  int replaced = -1;
  pocket().encode("fine", ControlStrings::parse, &replaced);
  CHECK(replaced == 0);
}

TEST_CASE("the prompts of the reference run have the ids it was run with") {
  const Reference reference;
  const auto prompts = nlohmann::json::parse(reference.header.at("__metadata__").at("prompts").get<std::string>());
  for (const char* name : {"doc", "chat", "needle", "recall"}) {
    CAPTURE(name);
    REQUIRE(prompts.contains(name));
    CHECK(pocket().encode(prompts[name].get<std::string>(), ControlStrings::parse) ==
          reference.ids(std::string(name) + ".ids"));
  }
}

TEST_CASE("decoding what was encoded gives the NFC of the text") {
  CHECK(rc::check("decode(encode(x)) == NFC(x)", [] {
    const std::string text = random_text();
    for (const ControlStrings control : {ControlStrings::parse, ControlStrings::plain}) {
      RC_ASSERT(pocket().decode(pocket().encode(text, control)) == text::nfc(text));
    }
  }));
}

TEST_CASE("control strings are ids when parsed and text when plain") {
  const int end = *pocket().control_id("<|im_end|>");
  CHECK(pocket().special(end));
  CHECK(pocket().bytes(end) == "<|im_end|>");
  CHECK(pocket().encode("<|im_end|>", ControlStrings::parse) == Ids{end});
  const Ids plain = pocket().encode("<|im_end|>", ControlStrings::plain);
  CHECK(plain.size() > 1);
  CHECK(std::find(plain.begin(), plain.end(), end) == plain.end());
  CHECK(pocket().decode(plain) == "<|im_end|>");
  CHECK_FALSE(pocket().control_id("<|IM_END|>").has_value());
  CHECK(pocket().decode(Ids{end, plain[0], end}, true) == pocket().decode(Ids{plain[0]}));
  const auto found = pocket().find_controls("a<|im_end|>");
  REQUIRE(found.size() == 1);
  CHECK(found[0].begin == 1);
  CHECK(found[0].end == 11);
  CHECK(found[0].id == end);
}

TEST_CASE("every byte has a token, and ids without one have no bytes") {
  std::vector<bool> seen(256, false);
  for (int id = 0; id < pocket().size(); ++id) {
    REQUIRE(pocket().has_token(id));
    const std::string_view bytes = pocket().bytes(id);
    REQUIRE_FALSE(bytes.empty());
    if (bytes.size() == 1) seen[static_cast<std::uint8_t>(bytes[0])] = true;
  }
  CHECK(std::count(seen.begin(), seen.end(), true) == 256);
  for (const int id : {-1, pocket().size(), 248319, 1 << 30}) {
    CHECK_FALSE(pocket().has_token(id));
    CHECK(pocket().bytes(id).empty());
    CHECK_FALSE(pocket().special(id));
    CHECK(pocket().decode(Ids{id}).empty());
  }
}

TEST_CASE("the split pattern of Qwen3.5 cuts before digits, blanks and marks as it should") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces(qwen_splitter(), "I'm 1234, we'RE coding.") ==
        Pieces{"I", "'m", " ", "1", "2", "3", "4", ",", " we", "'RE", " coding", "."});
  CHECK(pieces(qwen_splitter(), "  one\t two\n\nthree  \n") ==
        Pieces{" ", " one", "\t", " two", "\n\n", "three", "  \n"});
  CHECK(pieces(qwen_splitter(), "\u0301!I") == Pieces{"\u0301", "!I"});
  CHECK(pieces(qwen_splitter(), "a\u200bb\u3000c") == Pieces{"a", "\u200bb", "\u3000c"});
  CHECK(pieces(qwen_splitter(), "").empty());
  CHECK(qwen_splitter().by_class());
}

TEST_CASE("a pattern that leaves gaps or matches nothing still covers the text") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces(text::Splitter("[0-9]+", "test"), "ab12é3") == Pieces{"ab", "12", "é", "3"});
  CHECK(pieces(text::Splitter("x*", "test"), "aéxxb") == Pieces{"aé", "xx", "b"});
  CHECK(pieces(text::Splitter("\\p{Lu}", "test"), "aÉb") == Pieces{"a", "É", "b"});
  CHECK_FALSE(text::Splitter("\\p{Lu}", "test").by_class());
}

TEST_CASE("a megabyte without a gap is tokenized, whatever it is made of") {
  const std::size_t size = 1'000'000, less = size / 4;
  std::string marks = "e", jamo;
  while (marks.size() < less) marks += "\u0301\u0323";
  while (jamo.size() < less) jamo += "\u1100\u1161";
  for (const std::string& text :
       {std::string(size, 'a'), std::string(size, ' ') + "x", std::string(less, '\n'), std::string(less, '7'),
        std::string(less, '!'), std::string(less, '<'), marks, jamo}) {
    const Ids ids = pocket().encode(text, ControlStrings::parse);
    CHECK(pocket().decode(ids) == text::nfc(text));
  }
}

TEST_CASE("one tokenizer serves many threads") {
  const std::string text = test::source_text("tests/golden/pocket-tokenizer-vectors.json").substr(0, 20000);
  const Ids alone = pocket().encode(text, ControlStrings::parse);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) threads.emplace_back([&] { result = pocket().encode(text, ControlStrings::parse); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) CHECK(result == alone);
}

TEST_CASE("streamed text never ends inside a character and adds up to the decoded text") {
  std::vector<int> id_of(256, -1);
  for (int id = 0; id < pocket().size(); ++id) {
    if (pocket().bytes(id).size() == 1) id_of[static_cast<std::uint8_t>(pocket().bytes(id)[0])] = id;
  }
  const auto vectors = test::golden("pocket-tokenizer-vectors.json");
  for (const auto& entry : vectors["invalid"]) {
    StreamingDetokenizer stream(pocket());
    std::string text;
    for (const auto& byte : entry["bytes"]) {
      const std::string now = stream.push(id_of[byte.get<std::size_t>()]);
      CHECK(text::valid_utf8(now));
      text += now;
    }
    text += stream.finish();
    CHECK(text == entry["text"].get<std::string>());
    CHECK(stream.finish().empty());
  }
  for (const auto& entry : vectors["texts"]) {
    const Ids ids = entry["plain"].get<Ids>();
    StreamingDetokenizer stream(pocket());
    std::string text;
    for (const int id : ids) text += stream.push(id);
    CHECK(text + stream.finish() == pocket().decode(ids));
  }
}

TEST_CASE("a stream drops special tokens when asked and prints them when not") {
  const Ids ids = pocket().encode("a<|im_end|>b", ControlStrings::parse);
  StreamingDetokenizer quiet(pocket(), true), loud(pocket(), false);
  std::string less, all;
  for (const int id : ids) less += quiet.push(id), all += loud.push(id);
  CHECK(less == "ab");
  CHECK(all == "a<|im_end|>b");
}

TEST_CASE("the real Qwen3.5 tokenizer gives the ids that are known of it") {
  const char* path = std::getenv("TQKV_QWEN_TOKENIZER");
  if (!path || !*path) {
    MESSAGE("SKIPPED: set TQKV_QWEN_TOKENIZER to the tokenizer.json of a Qwen3.5 checkpoint to run this test");
    return;
  }
  const std::filesystem::path file(path);
  const auto config = file.parent_path() / "tokenizer_config.json";
  const Tokenizer tokenizer =
      Tokenizer::parse(read_text(file), std::filesystem::exists(config) ? read_text(config) : "", path);
  const auto vectors = test::golden("qwen3.5-tokenizer-vectors.json");
  for (const auto& entry : vectors["text"]) {
    const auto text = entry["text"].get<std::string>();
    CAPTURE(text);
    CHECK(tokenizer.encode(text, ControlStrings::parse) == entry["ids"].get<Ids>());
  }
  for (const auto& entry : vectors["chat"]) {
    ChatOptions options;
    options.think = entry["enable_thinking"].get<bool>();
    const auto rendered = ChatTemplate(ChatVariant::qwen3_5).render({entry["messages"].dump(), ""}, options);
    CHECK(text_of(rendered) == entry["rendered"].get<std::string>());
    CHECK(encode(tokenizer, rendered) == entry["ids"].get<Ids>());
  }
}

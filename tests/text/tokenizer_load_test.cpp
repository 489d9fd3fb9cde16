#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "files.h"
#include "text/bpe.h"
#include "text/utf8.h"
#include "tqkv/error.h"
#include "tqkv/tokenizer.h"

using namespace tqkv;
using nlohmann::json;

namespace {

using Ids = std::vector<int>;

/// The smallest tokenizer there can be: the 256 bytes (id = byte) and a few merges.
json small() {
  json tokenizer = {
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", "\\p{L}+|\\s+"}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"merges", {"a b", "ab c", "b c"}}}},
      {"added_tokens", json::array()}};
  json& vocab = tokenizer["model"]["vocab"];
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string spelled;
    text::append_character(spelled, text::byte_alphabet()[byte]);
    vocab[spelled] = byte;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  vocab["bc"] = 258;
  return tokenizer;
}

json added(int id, const char* content) {
  return {{"id", id}, {"content", content}, {"special", true}, {"normalized", false}};
}

Tokenizer parse(const json& tokenizer, const std::string& config = "") {
  return Tokenizer::parse(tokenizer.dump(), config, "tokenizer.json");
}

std::string refusal(const std::string& tokenizer, const std::string& config = "") {
  try {
    Tokenizer::parse(tokenizer, config, "tokenizer.json");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::tokenizer);
    return error.what();
  }
  return "accepted";
}

std::string refusal_of(const std::function<void(json&)>& change, const std::string& config = "") {
  json tokenizer = small();
  change(tokenizer);
  return refusal(tokenizer.dump(), config);
}

bool has(const std::string& message, const std::string& part) {
  INFO(message);
  const bool found = message.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

TEST_CASE("merges may be strings or pairs and apply by rank") {
  json tokenizer = small();
  CHECK(parse(tokenizer).encode("abcbc", ControlStrings::plain) == Ids{257, 258});
  CHECK(parse(tokenizer).size() == 259);
  const json strings = tokenizer["model"]["merges"];
  tokenizer["model"]["merges"] =
      json::array({json::array({"a", "b"}), json::array({"ab", "c"}), json::array({"b", "c"})});
  CHECK(parse(tokenizer).encode("abcbc", ControlStrings::plain) == Ids{257, 258});
  tokenizer["model"]["merges"] = {"b c", "a b", "ab c"};
  CHECK(parse(tokenizer).encode("abc", ControlStrings::plain) == Ids{'a', 258});
}

TEST_CASE("the longest of the control strings that start first is taken, and blanks where a token asks for them") {
  json tokenizer = small();
  tokenizer["added_tokens"] = json::array({added(259, "<a>"), added(260, "<a><b>"), added(261, "<b>")});
  CHECK(parse(tokenizer).encode("<a><b><b><a>", ControlStrings::parse) == Ids{260, 261, 259});
  tokenizer["added_tokens"][2]["lstrip"] = true;
  tokenizer["added_tokens"][2]["rstrip"] = true;
  CHECK(parse(tokenizer).encode("x \n<b>\t y", ControlStrings::parse) == Ids{'x', 261, 'y'});
  CHECK(parse(tokenizer).encode("<b> <b>", ControlStrings::parse) == Ids{261, 261});
}

TEST_CASE("a normalized control string is found after NFC") {
  json tokenizer = small();
  tokenizer["added_tokens"] = json::array({added(259, "caf\u00e9")});
  CHECK(parse(tokenizer).encode("cafe\u0301", ControlStrings::parse).size() > 1);
  tokenizer["added_tokens"][0]["normalized"] = true;
  CHECK(parse(tokenizer).encode("xcafe\u0301y", ControlStrings::parse) == Ids{'x', 259, 'y'});
  CHECK(parse(tokenizer).encode("cafe\u0301", ControlStrings::plain).size() > 1);
}

TEST_CASE("the pattern of tokenizer_config.json goes first, with a warning") {
  const json config = {{"pretokenize_regex", "."}};
  const Tokenizer tokenizer = parse(small(), config.dump());
  CHECK(tokenizer.encode("abc", ControlStrings::plain) == Ids{'a', 'b', 'c'});
  REQUIRE(tokenizer.warnings().size() == 1);
  has(tokenizer.warnings()[0], "the latter is used");
  CHECK(parse(small(), json{{"pretokenize_regex", "\\p{L}+|\\s+"}}.dump()).warnings().empty());
  CHECK(test::pocket().warnings().empty());
  has(refusal(small().dump(), R"({"pretokenize_regex": "(a"})"), "cannot be compiled");
}

TEST_CASE("added tokens that only tokenizer_config.json lists are taken") {
  json tokenizer = small();
  tokenizer["added_tokens"] = json::array({added(259, "<a>")});
  const json config = {{"added_tokens_decoder", {{"259", added(259, "<a>")}, {"262", added(262, "<audio>")}}}};
  const Tokenizer both = parse(tokenizer, config.dump());
  CHECK(both.encode("<a><audio>", ControlStrings::parse) == Ids{259, 262});
  CHECK(both.special(262));
  CHECK_FALSE(both.has_token(261));
  CHECK(both.decode(Ids{261}).empty());
  has(refusal(tokenizer.dump(), R"({"added_tokens_decoder": {"259": {"content": "<b>"}}})"), "in tokenizer.json it is");
  has(refusal(tokenizer.dump(), R"({"added_tokens_decoder": {"2x": {"content": "<b>"}}})"), "the id \"2x\"");
}

TEST_CASE("a tokenizer that lacks ids is refused") {
  has(refusal_of([](json& t) { t["model"]["vocab"].erase("bc"); }), "merge 2");
  has(refusal_of([](json& t) { t["model"]["vocab"].erase("!"); }), "the byte 0x21");
  has(refusal_of([](json& t) { t["model"]["vocab"]["xyz"] = 300; }),
      "41 of the ids 0 to 300 have no token, the first is 259");
  has(refusal_of([](json& t) { t["model"].erase("vocab"); }), "model.vocab");
  has(refusal_of([](json& t) { t["model"].erase("merges"); }), "model.merges");
  has(refusal_of([](json& t) { t["added_tokens"] = json::array({{{"content", "<a>"}}}); }), "the id of");
}

TEST_CASE("ids that are taken twice, negative, huge or no numbers are refused") {
  has(refusal_of([](json& t) { t["model"]["vocab"]["ab"] = 7; }), "gives id 7 to two tokens");
  has(refusal_of([](json& t) { t["model"]["vocab"]["ab"] = -1; }), "is -1, expected 0 to 16777215");
  has(refusal_of([](json& t) { t["model"]["vocab"]["ab"] = 1 << 24; }), "is 16777216");
  has(refusal_of([](json& t) { t["model"]["vocab"]["ab"] = 1.5; }), "is 1.5");
  has(refusal_of([](json& t) { t["model"]["vocab"]["ab"] = "7"; }), "is \"7\"");
  has(refusal_of([](json& t) {
        t["added_tokens"] = json::array({added(259, "<a>"), added(259, "<b>")});
      }),
      "id 259 has two");
  has(refusal_of([](json& t) {
        t["added_tokens"] = json::array({added(259, "<a>"), added(260, "<a>")});
      }),
      "has two ids");
  has(refusal_of([](json& t) { t["added_tokens"] = json::array({added(12, "<a>")}); }), "contradicts model.vocab");
  has(refusal_of([](json& t) { t["added_tokens"] = json::array({added(300, "ab")}); }), "contradicts model.vocab");
}

TEST_CASE("parts that would give other ids are refused by name") {
  has(refusal_of([](json& t) { t["normalizer"] = {{"type", "NFKC"}}; }), "unsupported normalizer {\"type\":\"NFKC\"}");
  has(refusal_of([](json& t) { t["pre_tokenizer"] = {{"type", "Metaspace"}}; }), "unsupported pre_tokenizer");
  has(refusal_of([](json& t) { t["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = true; }), "unsupported ByteLevel");
  has(refusal_of([](json& t) { t["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; }), "unsupported Split");
  has(refusal_of([](json& t) { t["decoder"] = {{"type", "WordPiece"}}; }), "unsupported decoder");
  has(refusal_of([](json& t) { t.erase("decoder"); }), "decoder has no type");
  has(refusal_of([](json& t) {
        t["post_processor"] = {{"type", "TemplateProcessing"}};
      }),
      "unsupported post_processor");
  has(refusal_of([](json& t) { t["model"]["type"] = "Unigram"; }), "unsupported model \"Unigram\"");
  has(refusal_of([](json& t) { t["model"]["ignore_merges"] = true; }), "ignore_merges is true");
  has(refusal_of([](json& t) { t["model"]["dropout"] = 0.1; }), "dropout is 0.1");
  has(refusal_of([](json& t) { t["model"]["end_of_word_suffix"] = "</w>"; }), "end_of_word_suffix");
  has(refusal_of([](json& t) {
        t["added_tokens"] = json::array({added(259, "<a>")});
        t["added_tokens"][0]["single_word"] = true;
      }),
      "single_word");
}

TEST_CASE("files that are no tokenizer are refused") {
  has(refusal(""), "broken JSON");
  has(refusal("{\"model\": "), "broken JSON");
  has(refusal("[]"), "not a JSON object");
  has(refusal("{}"), "unsupported pre_tokenizer");
  has(refusal(small().dump(), "[1]"), "tokenizer_config.json next to tokenizer.json: it is not a JSON object");
  has(refusal(small().dump(), "nope"), "broken JSON");
  has(refusal(std::string(100000, '[')), "broken JSON");
  has(refusal_of([](json& t) { t["model"]["merges"] = json::array({"a b c"}); }), "merge 0 is");
  has(refusal_of([](json& t) { t["model"]["merges"] = json::array({json::array({"a"})}); }), "merge 0 is");
  has(refusal_of([](json& t) { t["model"]["merges"] = json::array({"ab a"}); }), "that is not in model.vocab");
  has(refusal_of([](json& t) { t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?<"; }),
      "cannot be compiled");
  has(refusal(test::pocket_json().substr(0, test::pocket_json().size() / 2)), "broken JSON");
}

TEST_CASE("a pattern that backtracks without end gives up with an error") {
  json tokenizer = small();
  tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+)+[bc]";
  const Tokenizer hostile = parse(tokenizer);
  CHECK_THROWS_WITH_AS(hostile.encode(std::string(64, 'a'), ControlStrings::plain), doctest::Contains("gave up"),
                       Error);
}

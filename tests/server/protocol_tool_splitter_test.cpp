// Tool calls in answers that come in pieces.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "server/protocol/tool_splitter.h"
#include "tqkv/chat.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;
using Kind = ToolEvent::Kind;
using nlohmann::json;

const std::string tools = R"([{"type":"function","function":{"name":"weather","parameters":{"properties":{
  "city":{"type":"string"},"days":{"type":"integer"},"hours":{"type":"array"},"limit":{"type":["number","null"]},
  "near":{"anyOf":[{"type":"object"},{"type":"null"}]}}}}}])";

/// Events of one answer; pieces that follow one another are joined.
class Heard {
 public:
  std::vector<ToolEvent> events;

  void add(const std::vector<ToolEvent>& more) {
    for (const ToolEvent& event : more) {
      const bool piece = event.kind == Kind::text || event.kind == Kind::call_arguments;
      if (piece && !events.empty() && events.back().kind == event.kind) {
        events.back().text += event.text;
      } else {
        events.push_back(event);
      }
    }
  }
  std::string text() const {
    std::string all;
    for (const ToolEvent& event : events)
      if (event.kind == Kind::text) all += event.text;
    return all;
  }
  /// Names and arguments of whole calls.
  std::vector<std::pair<std::string, std::string>> calls() const {
    std::vector<std::pair<std::string, std::string>> all;
    std::string name, arguments;
    for (const ToolEvent& event : events) {
      if (event.kind == Kind::call_begin) name = event.text, arguments.clear();
      if (event.kind == Kind::call_arguments) arguments += event.text;
      if (event.kind == Kind::call_end) all.emplace_back(name, arguments);
    }
    return all;
  }
};

Heard whole(const std::string& text, const std::string& given = tools) {
  ToolSplitter splitter(given);
  Heard heard;
  heard.add(splitter.feed(text));
  heard.add(splitter.finish());
  return heard;
}

/// `text` in whole characters, of which `cuts` says how many come at a time.
Heard in_pieces(const std::string& text, const std::vector<int>& cuts, const std::string& given = tools) {
  ToolSplitter splitter(given);
  Heard heard;
  std::size_t at = 0, turn = 0;
  while (at < text.size()) {
    const std::size_t begin = at;
    const int characters = cuts.empty() ? 1 : 1 + cuts[turn++ % cuts.size()] % 12;
    for (int i = 0; i < characters && at < text.size(); ++i) at += next_character(text, at).length;
    heard.add(splitter.feed(text.substr(begin, at - begin)));
  }
  heard.add(splitter.finish());
  return heard;
}

std::string call(const std::string& name, const std::string& parameters) {
  return "<tool_call>\n<function=" + name + ">\n" + parameters + "</function>\n</tool_call>";
}

std::string parameter(const std::string& key, const std::string& value) {
  return "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
}

TEST_CASE("a call comes as its name, its arguments and its end") {
  const Heard heard = whole("I look.\n\n" + call("weather", parameter("city", "Oslo") + parameter("days", "3")));
  CHECK(heard.events == std::vector<ToolEvent>{{Kind::text, "I look."},
                                               {Kind::call_begin, "weather"},
                                               {Kind::call_arguments, R"({"city":"Oslo","days":3})"},
                                               {Kind::call_end, ""}});
}

TEST_CASE("a string is streamed, and what may be its end is held back") {
  ToolSplitter splitter(tools);
  CHECK(splitter.feed("<tool_call>\n<function=weather>\n").empty());
  CHECK(splitter.feed("<parameter=city") == std::vector<ToolEvent>{});
  CHECK(splitter.feed(">\n") ==
        std::vector<ToolEvent>{{Kind::call_begin, "weather"}, {Kind::call_arguments, R"({"city":")"}});
  CHECK(splitter.feed("Pa") == std::vector<ToolEvent>{{Kind::call_arguments, "Pa"}});
  CHECK(splitter.feed("ri\"s\n</para") == std::vector<ToolEvent>{{Kind::call_arguments, "ri\\\"s"}});
  CHECK(splitter.feed("graph>") == std::vector<ToolEvent>{{Kind::call_arguments, "\\n</paragraph>"}});
  CHECK(splitter.feed("\n</parameter>\n").empty());
  CHECK(splitter.feed("<para").empty());
  CHECK(splitter.feed("meter=days>\n1") == std::vector<ToolEvent>{{Kind::call_arguments, R"(","days":)"}});
  CHECK(splitter.feed("2\n</parameter>\n</function>") ==
        std::vector<ToolEvent>{{Kind::call_arguments, "12}"}, {Kind::call_end, ""}});
  CHECK(splitter.whole_calls() == 1);
  CHECK(splitter.feed("\n</tool_call>").empty());
  CHECK(splitter.finish().empty());
}

TEST_CASE("text that may begin a call is held back, and comes when it does not") {
  ToolSplitter splitter(tools);
  CHECK(splitter.feed("\n\na <tool") == std::vector<ToolEvent>{{Kind::text, "a"}});
  CHECK(splitter.feed("box> ") == std::vector<ToolEvent>{{Kind::text, " <toolbox>"}});
  CHECK(splitter.feed("<tool_call>").empty());
  CHECK(splitter.feed(" is a tag") == std::vector<ToolEvent>{{Kind::text, " <tool_call> is a tag"}});
  CHECK(splitter.feed("\n").empty());
  CHECK(splitter.finish() == std::vector<ToolEvent>{{Kind::text, "\n"}});
}

TEST_CASE("without tools markup is text") {
  const std::string text = " " + call("weather", parameter("city", "Oslo")) + "\n";
  CHECK(whole(text, "").events == std::vector<ToolEvent>{{Kind::text, text}});
}

TEST_CASE("a call that the answer's end cuts stays as it was said, without an end") {
  CHECK(whole("<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</par").events ==
        std::vector<ToolEvent>{{Kind::call_begin, "weather"}, {Kind::call_arguments, R"({"city":"Oslo)"}});
  CHECK(whole("<tool_call>\n<function=weather>\n<parameter=days>\n1").events ==
        std::vector<ToolEvent>{{Kind::call_begin, "weather"}, {Kind::call_arguments, R"({"days":)"}});
  CHECK(whole("<tool_call>\n<function=weather>\n<param").events ==
        std::vector<ToolEvent>{{Kind::text, "<tool_call>\n<function=weather>\n<param"}});
}

TEST_CASE("what continues wrongly behind a begun call is text") {
  CHECK(whole("<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=>\n").events ==
        std::vector<ToolEvent>{
            {Kind::call_begin, "weather"}, {Kind::call_arguments, R"({"city":"Oslo")"}, {Kind::text, "<parameter=>"}});
  CHECK(whole("<tool_call>\n<function=weather>\n</function>\nwell").events ==
        std::vector<ToolEvent>{
            {Kind::call_begin, "weather"}, {Kind::call_arguments, "{}"}, {Kind::call_end, ""}, {Kind::text, "well"}});
}

/// Texts of a fixed series. RapidCheck's generators take a hundred times as long for texts of this length.
class Texts {
 public:
  explicit Texts(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return random_() % limit; }
  std::string one_of(const std::vector<std::string>& words) { return words[below(words.size())]; }
  std::string some_of(const std::vector<std::string>& words, std::size_t most) {
    std::string text;
    for (std::size_t count = below(most + 1); count > 0; --count) text += one_of(words);
    return text;
  }
  std::vector<int> cuts() {
    std::vector<int> sizes;
    for (std::size_t count = below(6); count > 0; --count) sizes.push_back(static_cast<int>(below(12)));
    return sizes;
  }

  /// Pieces of markup in any order: mostly no whole calls.
  std::string any() {
    return some_of({"<tool_call>",
                    "</tool_call>",
                    "<function=weather>",
                    "<function=",
                    "</function>",
                    "<parameter=city>",
                    "<parameter=days>",
                    "<parameter=",
                    "</parameter>",
                    "\n",
                    " ",
                    "\n\n",
                    "\t",
                    "a",
                    "Ü",
                    "12",
                    "\"",
                    "<",
                    ">",
                    "</",
                    "\\",
                    "<tool_",
                    "</para",
                    "日本",
                    "{}",
                    "null"},
                   30);
  }
  std::string plain() {
    return some_of(
        {"a", " ", "\n", "<", "Ü", "<tool", "</parameter>", "{\"a\": 1}", "\"", "日", "12", "<tool_call> ", "\\n"}, 8);
  }
  std::string blank() { return one_of({"", "\n", " ", "\n\n"}); }
  /// A call that is whole.
  std::string call() {
    std::string text = "<tool_call>" + blank() + "<function=" + one_of({"weather", "other", "a\"b"}) + ">" + blank();
    for (std::size_t count = below(4); count > 0; --count) {
      const std::string value =
          below(2) == 0 ? plain()
                        : one_of({"12", "[1, 2]", "null", "{\"b\": [1], \"a\": 2}", "True", "1.50", "<tool_call>"});
      text += "<parameter=" + one_of({"city", "days", "hours", "limit", "near", "Ü\"x"}) + ">\n" + value +
              "\n</parameter>" + blank();
    }
    return text + "</function>" + blank() + "</tool_call>";
  }
  /// Any text between calls that are whole.
  std::string well_formed() {
    std::string text;
    for (std::size_t count = below(6); count > 0; --count) text += below(2) == 0 ? call() : plain();
    return text;
  }

 private:
  std::mt19937 random_;
};

TEST_CASE("events do not depend on where a text is cut") {
  Texts texts(1);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = i % 2 == 0 ? texts.any() : texts.well_formed();
    CAPTURE(text);
    const Heard expected = whole(text);
    REQUIRE(in_pieces(text, texts.cuts()).events == expected.events);
    REQUIRE(in_pieces(text, {}).events == expected.events);
  }
}

TEST_CASE("calls and text are those that the whole text has") {
  Texts texts(2);
  int with_calls = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string text = texts.well_formed();
    CAPTURE(text);
    const ParsedAnswer expected = parse_tool_calls(text, tools);
    const Heard heard = in_pieces(text, texts.cuts());
    std::string content = expected.content;
    content.erase(0, std::min(content.find_first_not_of(" \t\r\n"), content.size()));
    const auto calls = heard.calls();
    REQUIRE(heard.text() == content);
    REQUIRE(calls.size() == expected.calls.size());
    for (std::size_t n = 0; n < calls.size(); ++n) {
      REQUIRE(calls[n].first == expected.calls[n].name);
      REQUIRE(json::parse(calls[n].second) == json::parse(expected.calls[n].arguments));
    }
    with_calls += calls.empty() ? 0 : 1;
  }
  CHECK(with_calls > 1500);
}

TEST_CASE("a call is given to an answer as it comes") {
  AnswerHead head;
  head.id = "1";
  head.model = "M";
  head.stream = false;
  const auto answer = AnswerWriter::make(Endpoint::chat, head);
  ToolSplitter splitter(tools);
  answer->begin({});
  for (const char c : "Look.\n" + call("weather", parameter("city", "Oslo")))
    CHECK(write(*answer, 0, splitter.feed(std::string_view(&c, 1))).empty());
  write(*answer, 0, splitter.finish());
  answer->finish(0, Ending::end_of_turn);
  const json choice = json::parse(answer->end({}, {})).at("choices").at(0);
  CHECK(choice.at("finish_reason") == "tool_calls");
  CHECK(choice.at("message").at("content") == "Look.");
  CHECK(choice.at("message").at("tool_calls").at(0).at("function") ==
        json{{"name", "weather"}, {"arguments", R"({"city":"Oslo"})"}});
}

}  // namespace

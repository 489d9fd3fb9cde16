// Tool calls in answers that come in pieces.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <nlohmann/json.hpp>
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

TEST_CASE("what goes on wrongly behind a begun call is text") {
  CHECK(whole("<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=>\n").events ==
        std::vector<ToolEvent>{{Kind::call_begin, "weather"},
                               {Kind::call_arguments, R"({"city":"Oslo")"},
                               {Kind::text, "<parameter=>"}});
  CHECK(whole("<tool_call>\n<function=weather>\n</function>\nwell").events ==
        std::vector<ToolEvent>{
            {Kind::call_begin, "weather"}, {Kind::call_arguments, "{}"}, {Kind::call_end, ""}, {Kind::text, "well"}});
}

/// Pieces of markup in any order: mostly no whole calls.
rc::Gen<std::string> any_text() {
  const auto piece = rc::gen::element<std::string>(
      "<tool_call>", "</tool_call>", "<function=weather>", "<function=", "</function>", "<parameter=city>",
      "<parameter=days>", "<parameter=", "</parameter>", "\n", " ", "\n\n", "\t", "a", "Ü", "12", "\"", "<", ">", "</",
      "\\", "<tool_", "</para", "日本", "{}", "null");
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece), [](const std::vector<std::string>& pieces) {
    std::string text;
    for (const std::string& one : pieces) text += one;
    return text;
  });
}

/// Any text between calls that are whole.
rc::Gen<std::string> well_formed() {
  const auto blank = rc::gen::element<std::string>("", "\n", " ", "\n\n");
  const auto plain = rc::gen::map(
      rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
          "a", " ", "\n", "<", "Ü", "<tool", "</parameter>", "{\"a\": 1}", "\"", "日", "12", "<tool_call> ", "\\n")),
      [](const std::vector<std::string>& pieces) {
        std::string text;
        for (const std::string& one : pieces) text += one;
        return text;
      });
  const auto values = rc::gen::oneOf(
      rc::gen::element<std::string>("12", "[1, 2]", "null", "{\"b\": [1], \"a\": 2}", "True", "1.50", "<tool_call>"),
      plain);
  const auto one_parameter = rc::gen::apply(
      [](const std::string& key, const std::string& value, const std::string& gap) {
        return "<parameter=" + key + ">\n" + value + "\n</parameter>" + gap;
      },
      rc::gen::element<std::string>("city", "days", "hours", "limit", "near", "Ü\"x"), values, blank);
  const auto one_call = rc::gen::apply(
      [](const std::string& name, const std::string& gap, const std::vector<std::string>& parameters) {
        std::string text = "<tool_call>" + gap + "<function=" + name + ">" + gap;
        for (const std::string& one : parameters) text += one;
        return text + "</function>" + gap + "</tool_call>";
      },
      rc::gen::element<std::string>("weather", "other", "a\"b"), blank,
      rc::gen::container<std::vector<std::string>>(one_parameter));
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(rc::gen::oneOf(one_call, plain)),
                      [](const std::vector<std::string>& parts) {
                        std::string text;
                        for (const std::string& one : parts) text += one;
                        return text;
                      });
}

TEST_CASE("events do not depend on where a text is cut") {
  CHECK(rc::check([](const std::vector<std::uint8_t>& sizes) {
    const std::string text = *rc::gen::oneOf(any_text(), well_formed());
    const std::vector<int> cuts(sizes.begin(), sizes.end());
    RC_ASSERT(in_pieces(text, cuts).events == whole(text).events);
    RC_ASSERT(in_pieces(text, {}).events == whole(text).events);
  }));
}

TEST_CASE("calls and text are those that the whole text has") {
  CHECK(rc::check([](const std::vector<std::uint8_t>& sizes) {
    const std::string text = *well_formed();
    const ParsedAnswer expected = parse_tool_calls(text, tools);
    const Heard heard = in_pieces(text, {sizes.begin(), sizes.end()});
    std::string content = expected.content;
    content.erase(0, std::min(content.find_first_not_of(" \t\r\n"), content.size()));
    const auto calls = heard.calls();
    RC_ASSERT(heard.text() == content);
    RC_ASSERT(calls.size() == expected.calls.size());
    for (std::size_t i = 0; i < calls.size(); ++i) {
      RC_ASSERT(calls[i].first == expected.calls[i].name);
      RC_ASSERT(json::parse(calls[i].second) == json::parse(expected.calls[i].arguments));
    }
    RC_CLASSIFY(!calls.empty());
  }));
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

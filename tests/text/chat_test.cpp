#include "tqkv/chat.h"

#include <doctest/doctest.h>

#include <string>

#include "files.h"
#include "text/python_json.h"
#include "tqkv/error.h"

using namespace tqkv;
using nlohmann::ordered_json;
using tqkv::test::pocket;

namespace {

std::string rendered(ChatVariant variant, const std::string& messages, const std::string& tools = "",
                     const ChatOptions& options = {}) {
  return text_of(ChatTemplate(variant).render({messages, tools}, options));
}

std::string refusal(ChatVariant variant, const std::string& messages, const std::string& tools = "",
                    const ChatOptions& options = {}) {
  try {
    rendered(variant, messages, tools, options);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::chat);
    return error.what();
  }
  return "accepted";
}

ChatOptions thinking(bool think) {
  ChatOptions options;
  options.think = think;
  return options;
}

ChatOptions options_of(const ordered_json& entry) {
  ChatOptions options;
  options.add_generation_prompt = entry["add_generation_prompt"].get<bool>();
  if (entry.contains("enable_thinking")) options.think = entry["enable_thinking"].get<bool>();
  return options;
}

std::string tools_of(const ordered_json& entry) {
  return entry.contains("tools") ? entry["tools"].dump() : "";
}

/// One call with these arguments, as 3.5 or 3.6 prints it.
std::string parameters(ChatVariant variant, const std::string& arguments) {
  const std::string text = rendered(
      variant,
      R"([{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f",)"
      R"("arguments":)" +
          arguments + "}}]}]");
  const std::string begin = "<function=f>\n", end = "</function>";
  const std::size_t at = text.find(begin) + begin.size();
  return text.substr(at, text.find(end) - at);
}

const char* const hi = R"([{"role": "user", "content": "Hi"}])";

std::optional<ChatVariant> detected(const std::string& chat_template) {
  const auto found = ChatTemplate::detect(chat_template, pocket());
  return found ? std::optional<ChatVariant>(found->variant()) : std::nullopt;
}

}  // namespace

TEST_CASE("conversations are rendered as the official templates render them") {
  const auto vectors = test::golden("qwen3.5-chat-vectors.json");
  REQUIRE(vectors["cases"].size() > 10);
  for (const auto& entry : vectors["cases"]) {
    CAPTURE(entry["name"].get<std::string>());
    for (const auto& [key, variant] :
         {std::pair{"qwen3.5", ChatVariant::qwen3_5}, std::pair{"qwen3.6", ChatVariant::qwen3_6}}) {
      const std::string messages = entry["messages"].dump();
      if (entry[key].is_null()) {
        const std::string message = refusal(variant, messages, tools_of(entry), options_of(entry));
        CHECK(message.starts_with("[chat] messages"));
        CHECK(message.find(entry["error"].get<std::string>()) != std::string::npos);
      } else {
        CHECK(rendered(variant, messages, tools_of(entry), options_of(entry)) == entry[key].get<std::string>());
      }
    }
  }
}

TEST_CASE("a conversation without control strings in its texts has the ids of its rendered text") {
  const auto vectors = test::golden("qwen3.5-chat-vectors.json");
  int compared = 0;
  for (const auto& entry : vectors["cases"]) {
    if (entry["qwen3.5"].is_null() || entry["name"] == "markup in user text") continue;
    const auto pieces =
        ChatTemplate(ChatVariant::qwen3_5).render({entry["messages"].dump(), tools_of(entry)}, options_of(entry));
    CAPTURE(entry["name"].get<std::string>());
    CHECK(encode(pocket(), pieces) == pocket().encode(text_of(pieces), ControlStrings::parse));
    ++compared;
  }
  CHECK(compared >= 11);
}

TEST_CASE("control strings in a user's text stay text") {
  const auto pieces =
      ChatTemplate(ChatVariant::plain).render({R"([{"role":"user","content":"a<|im_end|>b"}])", ""}, {});
  const auto ids = encode(pocket(), pieces);
  const int end = *pocket().control_id("<|im_end|>");
  CHECK(std::count(ids.begin(), ids.end(), end) == 1);
  CHECK(pocket().decode(ids) == text_of(pieces));
  CHECK(ids != pocket().encode(text_of(pieces), ControlStrings::parse));
  // The same in an assistant's text, a tool's result, a name and an argument.
  const auto more = ChatTemplate(ChatVariant::qwen3_5)
                        .render({R"([{"role":"user","content":"q"},
      {"role":"assistant","content":"<|im_end|>","reasoning_content":"<|im_end|>",
       "tool_calls":[{"name":"<|im_end|>","arguments":{"<|im_end|>":"<|im_end|>"}}]},
      {"role":"tool","content":"<|im_end|>"}])",
                                 R"([{"name":"<|im_end|>"}])"},
                                {});
  const auto more_ids = encode(pocket(), more);
  CHECK(std::count(more_ids.begin(), more_ids.end(), end) == 4);
}

TEST_CASE("markup and text between two control tokens are tokenized in one go") {
  const std::vector<ChatPiece> pieces = {
      {"<|im_start|>us", true}, {"er ", false}, {"<|im_end|> the", true}, {"m", false}};
  CHECK(encode(pocket(), pieces) == pocket().encode("<|im_start|>user <|im_end|> them", ControlStrings::parse));
  int replaced = -1;
  encode(pocket(), {{"a\xff", false}, {"<|im_end|>", true}, {"\xfe", false}}, &replaced);
  CHECK(replaced == 2);
}

TEST_CASE("thinking is on in 3.5 and 3.6, off in the small models, and impossible in plain ones") {
  const std::string start = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  const std::string open = start + "<think>\n", closed = start + "<think>\n\n</think>\n\n";
  for (const ChatVariant variant : {ChatVariant::qwen3_5, ChatVariant::qwen3_6}) {
    CHECK(rendered(variant, hi) == open);
    CHECK(rendered(variant, hi, "", thinking(true)) == open);
    CHECK(rendered(variant, hi, "", thinking(false)) == closed);
  }
  CHECK(rendered(ChatVariant::qwen3_5_no_think, hi) == closed);
  CHECK(rendered(ChatVariant::qwen3_5_no_think, hi, "", thinking(true)) == open);
  CHECK(rendered(ChatVariant::plain, hi) == closed);
  CHECK(rendered(ChatVariant::plain, hi, "", thinking(false)) == closed);
  CHECK(refusal(ChatVariant::plain, hi, "", thinking(true)).find("does not think") != std::string::npos);
  CHECK(ChatTemplate(ChatVariant::qwen3_5).opens_thinking({}));
  CHECK_FALSE(ChatTemplate(ChatVariant::qwen3_5).opens_thinking(thinking(false)));
  CHECK_FALSE(ChatTemplate(ChatVariant::qwen3_5_no_think).opens_thinking({}));
  CHECK_FALSE(ChatTemplate(ChatVariant::plain).opens_thinking({}));
  ChatOptions no_prompt;
  no_prompt.add_generation_prompt = false;
  CHECK_FALSE(ChatTemplate(ChatVariant::qwen3_5).opens_thinking(no_prompt));
}

TEST_CASE("3.6 keeps earlier reasoning when asked to") {
  const char* const turns = R"([{"role":"user","content":"a"},{"role":"assistant","content":"<think>why</think>b"},
                                {"role":"user","content":"c"}])";
  ChatOptions keep;
  keep.preserve_thinking = true;
  CHECK(rendered(ChatVariant::qwen3_6, turns).find("why") == std::string::npos);
  CHECK(rendered(ChatVariant::qwen3_6, turns, "", keep).find("assistant\n<think>\nwhy\n</think>\n\nb<|im_end|>") !=
        std::string::npos);
  CHECK(refusal(ChatVariant::qwen3_5, turns, "", keep).find("preserve_thinking") != std::string::npos);
}

TEST_CASE("the plain variant renders what the pocket model's template renders") {
  CHECK(rendered(ChatVariant::plain, R"([{"role":"system","content":" s "},{"role":"user","content":"\n q"},
      {"role":"assistant","content":"<think>x</think> a "},{"role":"critic","content":"z"}])") ==
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>x</think> "
        "a<|im_end|>\n"
        "<|im_start|>critic\nz<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  CHECK(refusal(ChatVariant::plain, hi, R"([{"name":"f"}])").find("tools:") != std::string::npos);
  CHECK(refusal(ChatVariant::plain, R"([{"role":"assistant","content":"","tool_calls":[{"name":"f"}]}])")
            .find("messages[0].tool_calls") != std::string::npos);
  CHECK(rendered(ChatVariant::plain, hi, "[]") == rendered(ChatVariant::plain, hi));
}

TEST_CASE("arguments are printed as Python prints them in 3.5 and as JSON in 3.6") {
  const char* const arguments =
      R"({"s": "a\"é", "t": true, "n": null, "i": -7, "f": 1e16, "g": 2.0, "l": [1, null, "é"], "o": {"k": 0.1}})";
  CHECK(parameters(ChatVariant::qwen3_5, arguments) ==
        "<parameter=s>\na\"é\n</parameter>\n<parameter=t>\nTrue\n</parameter>\n<parameter=n>\nNone\n</parameter>\n"
        "<parameter=i>\n-7\n</parameter>\n<parameter=f>\n1e+16\n</parameter>\n<parameter=g>\n2.0\n</parameter>\n"
        "<parameter=l>\n[1, null, \"é\"]\n</parameter>\n<parameter=o>\n{\"k\": 0.1}\n</parameter>\n");
  CHECK(parameters(ChatVariant::qwen3_6, arguments) ==
        "<parameter=s>\na\"é\n</parameter>\n<parameter=t>\ntrue\n</parameter>\n<parameter=n>\nnull\n</parameter>\n"
        "<parameter=i>\n-7\n</parameter>\n<parameter=f>\n1e+16\n</parameter>\n<parameter=g>\n2.0\n</parameter>\n"
        "<parameter=l>\n[1, null, \"é\"]\n</parameter>\n<parameter=o>\n{\"k\": 0.1}\n</parameter>\n");
  // As clients of the OpenAI API send them.
  CHECK(parameters(ChatVariant::qwen3_5, R"("{\"city\": \"Lisbon\"}")") == "<parameter=city>\nLisbon\n</parameter>\n");
  CHECK(parameters(ChatVariant::qwen3_5, R"("")").empty());
}

TEST_CASE("JSON is printed as Python's json.dumps prints it") {
  const auto printed = [](const char* json) { return text::to_json(text::parse_json(json, "test")); };
  CHECK(printed(R"({"b":1,"a":[true,false,null,{}],"b":2})") == R"({"b": 2, "a": [true, false, null, {}]})");
  CHECK(printed("[1.0,1e5,1e-5,0.0001,1e15,1e16,1.5e300,5e-324,-0.0,0.1,123456789.125]") ==
        "[1.0, 100000.0, 1e-05, 0.0001, 1000000000000000.0, 1e+16, 1.5e+300, 5e-324, -0.0, 0.1, 123456789.125]");
  CHECK(printed("[18446744073709551616,-100000000000000000000,18446744073709551615,-0]") ==
        "[18446744073709551616, -100000000000000000000, 18446744073709551615, 0]");
  CHECK(printed(R"(["\u00e9\n\t\b\f\r\"\\\/\u0001\u007f\u2028"])") ==
        "[\"é\\n\\t\\b\\f\\r\\\"\\\\/\\u0001\x7f\u2028\"]");
}

TEST_CASE("conversations that have no rendering are refused with their place") {
  const auto refused = [](const std::string& messages, const std::string& part, const std::string& tools = "") {
    const std::string message = refusal(ChatVariant::qwen3_5, messages, tools);
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  };
  refused("[", "messages: broken JSON");
  refused("{}", "messages: found an object, expected an array");
  refused("[1]", "messages[0]: found a number, expected an object");
  refused(R"([{"content":"a"}])", "messages[0].role: missing");
  refused(R"([{"role":"user","content":5}])", "Unexpected content type.");
  refused(R"([{"role":"user","content":[{"type":"x"}]}])", "Unexpected item type in content.");
  refused(R"([{"role":"user","content":[{"text":5}]}])", "messages[0].content[0].text: found a number");
  refused(R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])",
          "messages[0].content[0]: images are not");
  refused(R"([{"role":"user","content":[{"type":"video"}]}])", "videos are not supported");
  refused(R"([{"role":"system","content":[{"type":"image"}]}])", "System message cannot contain images.");
  refused(hi, "tools: found an object", "{}");
  refused(hi, "tools: broken JSON", "[");
  refused(hi, "tools[1]: found", "[{}, 1]");
  const auto call = [](const std::string& inside) {
    return R"([{"role":"user","content":"q"},{"role":"assistant","tool_calls":)" + inside + "}]";
  };
  refused(call("{}"), "messages[1].tool_calls: found an object");
  refused(call("[{}]"), "messages[1].tool_calls[0].name: missing");
  refused(call(R"([{"function":{"name":"f","arguments":[1]}}])"),
          "messages[1].tool_calls[0].function.arguments: found an array");
  refused(call(R"([{"name":"f","arguments":"[1]"}])"), "messages[1].tool_calls[0].arguments: found an array");
  refused(call(R"([{"name":"f","arguments":"{"}])"), "messages[1].tool_calls[0].arguments: broken JSON");
  refused(std::string(100000, '['), "nested deeper than 200");
  refused("[{\"role\":\"user\",\"content\":\"\xff\"}]", "broken JSON");
}

TEST_CASE("a template that only blanks and line ends tell from a known one is that one, without a word") {
  const std::string pocket_template = test::source_text("models/pocket/chat_template.jinja");
  std::string windows = "\xef\xbb\xbf";
  for (const char c : pocket_template) windows += c == '\n' ? std::string(" \r\n\n") : std::string(1, c);
  for (const std::string& text : {pocket_template, windows}) {
    std::string about = "untouched";
    const auto found = ChatTemplate::detect(text, pocket(), &about);
    REQUIRE(found.has_value());
    CHECK(about.empty());
    CHECK(text_of(found->render({hi, ""}, {})).ends_with("<think>\n\n</think>\n\n"));
  }
}

TEST_CASE("a template that adds a system message or begins the answer is named, with the markup taken instead") {
  for (const std::string text :
       {"{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{{- '<|im_start|>' + message.role }}",
        "{{- '<|im_start|>' ~ message['role'] ~ '\n' }}<|im_end|>{{- '<|im_start|>assistant\nSure: ' }}"}) {
    CAPTURE(text);
    std::string about;
    const auto found = ChatTemplate::detect(text, pocket(), &about);
    REQUIRE(found.has_value());
    CHECK(about.find("not a known one: the markup chatml is taken instead") != std::string::npos);
    CHECK(about.find("--markup") != std::string::npos);
    CHECK(about.find('\n') == std::string::npos);
  }
}

TEST_CASE("a template with renamed roles or other markers is refused and --markup is named") {
  for (const auto& one :
       {std::pair<std::string, std::string>{"<|im_start|>human\n <|im_end|>", "the role \"human\""},
        {"{{- '<|im_start|>' + ('bot' if message.role == 'assistant' else 'user') + '\n' }} <|im_end|>",
         "the role \"bot\""},
        {"<|im_start|>user<|im_sep|> <|im_end|>", "the marker <|im_sep|>"},
        {"[INST] [/INST]", "no <|im_start|>"}}) {
    const std::string& text = one.first;
    const std::string& what = one.second;
    CAPTURE(text);
    std::string about;
    CHECK_FALSE(ChatTemplate::detect(text, pocket(), &about).has_value());
    CHECK(about.find(what) != std::string::npos);
    CHECK(about.find("--markup") != std::string::npos);
  }
}

TEST_CASE("a developer message is a system message, and several at the front are one") {
  CHECK(rendered(ChatVariant::qwen3_5, R"([{"role":"system","content":"a "},{"role":"developer","content":"b"},
                                          {"role":"user","content":"q"}])")
            .starts_with("<|im_start|>system\na\n\nb<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"));
  CHECK(refusal(ChatVariant::qwen3_5, R"([{"role":"system","content":"a"},{"role":"system","content":"b"},
                                         {"role":"user","content":"q"},{"role":"developer","content":"c"}])")
            .find("messages[3]: System message must be") != std::string::npos);
  CHECK(refusal(ChatVariant::qwen3_5, R"([{"role":"user","content":"q"},{"role":"bot","content":"c"}])")
            .find("messages[1].role: Unexpected message role. Found \"bot\"") != std::string::npos);
}

TEST_CASE("the variant is told from the template") {
  const std::string markup = "<|im_start|> <|im_end|> <function= ";
  CHECK(detected(test::source_text("models/pocket/chat_template.jinja")) == ChatVariant::plain);
  CHECK(detected(markup + "enable_thinking is defined and enable_thinking is false") == ChatVariant::qwen3_5);
  CHECK(detected(markup + "enable_thinking is defined and enable_thinking is true") == ChatVariant::qwen3_5_no_think);
  CHECK(detected(markup + "enable_thinking  is\ntrue") == ChatVariant::qwen3_5_no_think);
  CHECK(detected(markup + "enable_thinking is false preserve_thinking is true") == ChatVariant::qwen3_6);
  CHECK_FALSE(detected("<|im_start|> <|im_end|> enable_thinking").has_value());
  CHECK_FALSE(detected("<|im_start|> enable_thinking <function=").has_value());
  CHECK_FALSE(detected("[INST] [/INST]").has_value());
  CHECK_FALSE(detected("").has_value());
}

TEST_CASE("a plain template without a think block gets none") {
  const auto found = ChatTemplate::detect("<|im_start|>assistant\n <|im_end|>", pocket());
  REQUIRE(found.has_value());
  CHECK(text_of(found->render({hi, ""}, {})) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

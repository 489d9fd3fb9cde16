// A byte that says how an answer is cut, then its text: calls are the same however it is cut, and the arguments of
// whole ones are JSON objects.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "server/protocol/tool_splitter.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;
using Kind = ToolEvent::Kind;

const std::string tools =
    R"([{"type":"function","function":{"name":"f","parameters":{"properties":{"s":{"type":"string"},"n":{"type":"number"},"o":{"anyOf":[{"type":"object"},{"type":"array"}]}}}}}])";

std::vector<ToolEvent> heard(const std::string& text, std::size_t step) {
  ToolSplitter splitter(tools);
  std::vector<ToolEvent> all;
  const auto add = [&](const std::vector<ToolEvent>& events) {
    for (const ToolEvent& event : events) {
      const bool piece = event.kind == Kind::text || event.kind == Kind::call_arguments;
      if (piece && !all.empty() && all.back().kind == event.kind) {
        all.back().text += event.text;
      } else {
        all.push_back(event);
      }
    }
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    for (std::size_t i = 0; i < step && at < text.size(); ++i) at += next_character(text, at).length;
    add(splitter.feed(std::string_view(text).substr(begin, at - begin)));
  }
  add(splitter.finish());
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::vector<ToolEvent> whole = heard(text, text.size() + 1);
  if (valid_utf8(text) && heard(text, 1 + data[0] % 16) != whole) __builtin_trap();
  std::string arguments;
  for (const ToolEvent& event : whole) {
    if (event.kind == Kind::call_begin) arguments.clear();
    if (event.kind == Kind::call_arguments) arguments += event.text;
    if (event.kind == Kind::call_end && !nlohmann::json::parse(arguments).is_object()) __builtin_trap();
  }
  return 0;
}

// A schema as bytes, and the same bytes as tools: refused with an Error(input), or a grammar that a text goes through.
// Text that the automaton lets pass in whole is JSON, and where it stands some byte or the end may follow.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tqkv/error.h"
#include "tqkv/grammar.h"

namespace {

/// Goes on by the first byte of a few that is allowed, from `turn` on.
void follow(const tqkv::Grammar& grammar, std::string_view turns, bool json) {
  static const std::string bytes = "\"}]>,:015.-e\\u{[tfnrls a/<\n\xc3\xa4";
  tqkv::Matcher matcher(grammar);
  std::string text;
  for (std::size_t i = 0; i < 300; ++i) {
    if (matcher.can_end() && json && !nlohmann::json::accept(text)) __builtin_trap();
    if (matcher.must_end()) return;
    const std::size_t turn = turns.empty() ? 0 : static_cast<std::uint8_t>(turns[i % turns.size()]);
    bool moved = false;
    for (std::size_t j = 0; !moved && j < bytes.size() + 256; ++j) {
      const char byte = j < bytes.size() ? bytes[(turn + j) % bytes.size()] : static_cast<char>(j - bytes.size());
      moved = matcher.advance({&byte, 1});
      if (moved) text += byte;
    }
    if (!moved && !matcher.can_end()) __builtin_trap();
  }
}

template <class Make>
void attempt(const Make& make, std::string_view turns, bool json) {
  std::optional<tqkv::Grammar> grammar;
  try {
    grammar = make();
  } catch (const tqkv::Error& error) {
    if (error.kind() != tqkv::ErrorKind::input) __builtin_trap();
    return;
  }
  follow(*grammar, turns, json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  attempt([&] { return tqkv::Grammar::json_schema(bytes); }, bytes, true);
  attempt([&] { return tqkv::Grammar::tool_calls(bytes); }, bytes, false);
  return 0;
}

// What a grammar takes.
#pragma once
#include <string>
#include <string_view>

#include "tqkv/error.h"
#include "tqkv/grammar.h"

namespace tqkv::test {

/// Whether `text` is whole.
inline bool accepts(const Grammar& grammar, std::string_view text) {
  Matcher matcher(grammar);
  return matcher.advance(text) && matcher.can_end();
}
inline bool accepts(std::string_view schema, std::string_view text) {
  return accepts(Grammar::json_schema(schema), text);
}
/// Whether something whole may begin with `text`.
inline bool begins(std::string_view schema, std::string_view text) {
  return Matcher(Grammar::json_schema(schema)).advance(text);
}
/// What the error says; empty: the schema is taken.
inline std::string refusal(std::string_view schema) {
  try {
    Grammar::json_schema(schema);
  } catch (const Error& error) {
    return error.kind() == ErrorKind::input ? error.what() : "of another kind";
  }
  return {};
}

}  // namespace tqkv::test

// JSON as Python reads and prints it: keys in order, a later duplicate in the place of the first, integers of any size.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::text {

struct PyValue {
  enum class Kind { null, boolean, integer, real, string, array, object };
  Kind kind = Kind::null;
  std::string text;               // of a string; True, False, digits, or repr() of a float
  std::vector<PyValue> items;     // of an array, or the values of an object
  std::vector<std::string> keys;  // of an object

  const PyValue* find(std::string_view key) const;
  bool is(Kind other) const { return kind == other; }
  /// "a string", "an array", … for messages.
  std::string_view kind_name() const;
};

/// Throws Error(chat), with `where` in front, for text that is no JSON or is nested deeper than 200.
PyValue parse_json(std::string_view text, std::string_view where);

/// json.dumps(value, ensure_ascii=False).
std::string to_json(const PyValue& value);
/// str(value) of a scalar: None, True, 1.5, the string itself.
std::string to_str(const PyValue& value);

}  // namespace tqkv::text

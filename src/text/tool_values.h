// Arguments of tool calls: text in the model's markup, JSON with the type that the tool declares.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::text {

/// The types that the schema in `tools` declares for a parameter, those of its alternatives, of what a $ref leads to,
/// and of the values of an enum included; without a type, those that its other keywords speak of. Empty: none.
std::vector<std::string> declared_types(const nlohmann::json& tools, std::string_view function,
                                        std::string_view parameter);

/// Whether a value of these types is a string whatever its text is.
bool always_string(const std::vector<std::string>& types);

/// A number, a boolean, null, an array or an object where the text is one and `types` have it; otherwise a string.
nlohmann::ordered_json argument_value(std::string_view text, const std::vector<std::string>& types);

/// `text` with U+FFFD for what is not UTF-8.
std::string valid(std::string_view text);

}  // namespace tqkv::text

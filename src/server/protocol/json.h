// JSON of requests, read with care, and of answers.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tqkv::server {

/// Members stay in their order, as prompts show them.
using Json = nlohmann::ordered_json;

constexpr int deepest_json = 100;
constexpr int most_json_values = 1'000'000;

/// Throws ApiError 400 for what is no JSON or no UTF-8, a member that comes twice, and more levels or values than the
/// two limits. `what` is the subject of its message, and `field` what it names: "The body", "".
Json parse_json(std::string_view text, std::string_view what = "The body", std::string_view field = {});

/// On one line. Invalid UTF-8 becomes U+FFFD.
std::string print(const Json& value);

/// "an object", "a string", … for messages.
std::string_view kind_of(const Json& value);

/// At most `most` characters of a request's text, on one line.
std::string shortened(std::string_view text, std::size_t most);
/// The same of 60 characters, in quotes.
std::string in_quotes(std::string_view text);

}  // namespace tqkv::server

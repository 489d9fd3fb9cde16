// JSON from outside, parsed strictly.
#pragma once
#include <exception>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "tqkv/error.h"

namespace tqkv {

/// What is wrong with a JSON text, as the library says it but without its own prefix:
/// "[json.exception.parse_error.101] parse error at line 1, column 2: …".
std::string json_problem(const std::exception& problem);

/// Parses JSON whose top is an object. Throws Error(kind) that starts with `where` for text that is no JSON, nested
/// deeper than `max_depth`, or with a key twice in one object.
nlohmann::json parse_json(std::string_view text, std::string_view where, ErrorKind kind, int max_depth = 16);

}  // namespace tqkv

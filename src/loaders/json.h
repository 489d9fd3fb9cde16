// JSON from outside, parsed strictly.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "tqkv/error.h"

namespace tqkv {

/// Parses JSON whose top is an object. Throws Error(kind) that starts with `where` for text that is no JSON, nested
/// deeper than `max_depth`, or with a key twice in one object.
nlohmann::json parse_json(std::string_view text, std::string_view where, ErrorKind kind, int max_depth = 16);

}  // namespace tqkv

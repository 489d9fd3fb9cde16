// What Python's strings do, for text in UTF-8 (base/utf8.h).
#pragma once
#include <string_view>

#include "base/utf8.h"

namespace tqkv::text {

using tqkv::append_character;
using tqkv::append_lossy;
using tqkv::next_character;
using tqkv::Utf8Step;
using tqkv::valid_utf8;

/// `part in text` of Python.
bool contains(std::string_view text, std::string_view part);
/// text.strip() of Python.
std::string_view strip(std::string_view text);
/// text.lstrip("\n") and text.rstrip("\n") of Python.
std::string_view strip_newlines_left(std::string_view text);
std::string_view strip_newlines_right(std::string_view text);

}  // namespace tqkv::text

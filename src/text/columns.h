// Width of text on a terminal.
#pragma once
#include <cstddef>
#include <string_view>

namespace tqkv::text {

/// Columns that a terminal gives to `text`: two for a wide character, none for a mark on the character before it, one
/// for a byte that is not UTF-8.
std::size_t columns(std::string_view text);

}  // namespace tqkv::text

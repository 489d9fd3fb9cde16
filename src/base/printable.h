// Text of files, models and hubs on a terminal, where some characters are commands.
#pragma once
#include <string>
#include <string_view>

namespace tqkv {

/// What printable() leaves as it is besides ordinary characters.
enum class Keep {
  nothing,         ///< one line: line breaks and tabs are escaped too
  lines_and_tabs,  ///< text: newlines and tabs are kept
};

/// `text` with everything a terminal would obey written out: C0 controls and DEL as \x1b, C1 controls and the
/// characters that reorder text as \u009b, bytes that are not UTF-8 as \xff. A character that is cut
/// off at the end counts as such bytes: give whole characters.
std::string printable(std::string_view text, Keep keep);

}  // namespace tqkv

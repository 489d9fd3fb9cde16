// What a person entered at a terminal, kept from one run to the next: a text a line, the newest last.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::cli {

inline constexpr int longest_history = 1000;  ///< texts

/// $XDG_STATE_HOME/tqkv/history, else ~/.local/state/tqkv/history; empty where there is neither.
std::filesystem::path history_file();

// A history is a convenience: a file that cannot be read or written is silently none, as is an empty path.

/// The newest texts, oldest first. A file that has grown to twice as many is cut to them.
std::vector<std::string> read_history(const std::filesystem::path& path);

/// Appends a text, by one write: several runs share a file, and one that is killed loses nothing. The file is readable
/// by its owner alone.
void append_history(const std::filesystem::path& path, std::string_view text);

}  // namespace tqkv::cli

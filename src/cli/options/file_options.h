// What all options that name files have in common.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace tqkv::cli {

/// Lets every command of `program` refuse, before it does anything, an empty name of a file, and a file to write that
/// it also reads or writes for another option, by whatever name or link. Error(usage) names both options and the file.
/// A session may be saved where it came from.
void check_files(CLI::App& program);

/// For --resume: throws Error(usage) when `output`, the option --output, names no file that can be continued.
void check_resumed(const std::string& output);

}  // namespace tqkv::cli

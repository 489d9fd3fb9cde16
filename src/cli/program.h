// The program: its subcommands, its errors and its exit codes.
#pragma once

namespace tqkv::cli {

/// Parses the command line, runs the command and reports a failure as one line on standard error. Returns the exit
/// code: 0, 1 failed, 2 usage, 130 interrupted.
int run(int argc, const char* const* argv);

}  // namespace tqkv::cli

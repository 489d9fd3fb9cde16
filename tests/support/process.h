// Runs a program and gathers what it says.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "support/temporary_directory.h"

namespace tqkv::test {

struct ProcessOptions {
  std::string input;                        ///< standard input
  std::function<void(pid_t)> before_input;  ///< called before the first byte of it is sent
  enum class Output { captured, closed, pipe_without_reader, full_device } output = Output::captured;
  bool non_blocking = false;         ///< the three standard streams are in the mode that an event loop leaves them in
  bool interrupt_at_output = false;  ///< SIGINT once, when the first byte of standard output arrives
  std::uint64_t largest_file = 0;    ///< bytes of a file after which the disk is full; 0: no limit
  std::filesystem::path directory;   ///< working directory; empty: this one
  std::vector<std::pair<std::string, std::string>> environment;  ///< on top of this program's
};

struct ProcessResult {
  int exit_code = -1;  ///< 128 + signal when one killed it
  std::string output, error;
};

ProcessResult run(const std::vector<std::string>& command, const ProcessOptions& options = {});
/// The same with the tqkv program of this build in front.
ProcessResult run_tqkv(std::vector<std::string> arguments, const ProcessOptions& options = {});

}  // namespace tqkv::test

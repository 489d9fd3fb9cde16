// The program at a terminal.
#pragma once
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <util.h>
#else
#include <pty.h>
#endif

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "support/places.h"
#include "support/sanitized.h"

namespace tqkv::test {

using Environment = std::vector<std::pair<std::string, std::string>>;

/// The program at a terminal of 100 columns, with its history in the folder `state`; `environment` on top of this
/// program's and of TERM=xterm.
class Terminal {
 public:
  Terminal(const std::filesystem::path& state, std::vector<std::string> arguments,
           const Environment& environment = {}) {
    winsize size{24, 100, 0, 0};
    process_ = ::forkpty(&descriptor_, nullptr, nullptr, &size);
    REQUIRE(process_ >= 0);
    if (process_ != 0) return;
    ::setenv("TERM", "xterm", 1);
    ::setenv("XDG_STATE_HOME", state.c_str(), 1);
    for (const auto& [key, value] : environment) ::setenv(key.c_str(), value.c_str(), 1);
    arguments.insert(arguments.begin(), test::program());
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    ::execv(test::program().c_str(), words.data());
    ::_exit(127);
  }
  ~Terminal() {
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      ::waitpid(process_, nullptr, 0);
    }
    ::close(descriptor_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& text) { REQUIRE(::write(descriptor_, text.data(), text.size()) > 0); }

  /// Reads until `text` has come after what was waited for before.
  bool wait_for(const std::string& text, int milliseconds = sanitized ? 120'000 : 30'000) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (true) {
      if (const std::size_t found = screen_.find(text, seen_); found != std::string::npos) {
        seen_ = found + text.size();
        return true;
      }
      pollfd ready{descriptor_, POLLIN, 0};
      if (std::chrono::steady_clock::now() > end) return false;
      if (::poll(&ready, 1, 200) <= 0) continue;
      char buffer[4096];
      const ssize_t got = ::read(descriptor_, buffer, sizeof buffer);
      if (got <= 0) return screen_.find(text, seen_) != std::string::npos;
      screen_.append(buffer, static_cast<std::size_t>(got));
    }
  }

  /// Waits for the prompt and until the program has taken over from the terminal's own line editing, which follows.
  bool wait_for_prompt(const std::string& prompt = "> ") {
    if (!wait_for(prompt)) return false;
    for (int i = 0; i < 3000; ++i) {
      termios settings{};
      if (::tcgetattr(descriptor_, &settings) == 0 && (settings.c_lflag & ICANON) == 0) return true;
      ::usleep(10'000);
    }
    return false;
  }

  int exit_code() {
    int status = 0;
    wait_for("\x01never");  // to the end of the output
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    pid_t ended = 0;
    while ((ended = ::waitpid(process_, &status, WNOHANG)) == 0 && std::chrono::steady_clock::now() < end)
      ::poll(nullptr, 0, 5);
    REQUIRE(ended == process_);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void send(int signal) { REQUIRE(::kill(process_, signal) == 0); }
  const std::string& screen() const { return screen_; }

 private:
  int descriptor_ = -1;
  pid_t process_ = -1;
  std::string screen_;
  std::size_t seen_ = 0;
};

}  // namespace tqkv::test

#include "support/process.h"
#include "support/places.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace tqkv::test {
namespace {

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) throw std::runtime_error("pipe failed");
    read_end = ends[0];
    write_end = ends[1];
    for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  }
  ~Pipe() {
    close_end(read_end);
    close_end(write_end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  static void close_end(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
};

[[noreturn]] void become(const std::vector<std::string>& command, const ProcessOptions& options, int in, int out,
                         int err) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  for (const auto& [key, value] : options.environment) ::setenv(key.c_str(), value.c_str(), 1);
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) ::_exit(126);
  if (options.largest_file > 0) {  // a write past the limit comes back short, then fails
    const rlimit limit{options.largest_file, options.largest_file};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ::signal(SIGPIPE, SIG_DFL);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGXFSZ}) ::signal(signal, SIG_DFL);
  if (options.non_blocking)
    for (const int stream : {in, out, err}) ::fcntl(stream, F_SETFL, ::fcntl(stream, F_GETFL) | O_NONBLOCK);
  ::dup2(in, 0);
  if (options.output == ProcessOptions::Output::closed)
    ::close(1);
  else
    ::dup2(options.output == ProcessOptions::Output::full_device ? ::open("/dev/full", O_WRONLY) : out, 1);
  ::dup2(err, 2);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

/// Appends what can be read now; closes `end` at its end.
void drain(int& end, std::string& text) {
  std::array<char, 65536> buffer{};
  const ssize_t count = ::read(end, buffer.data(), buffer.size());
  if (count > 0)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  else if (count == 0 || errno != EINTR)
    Pipe::close_end(end);
}

}  // namespace

ProcessResult run(const std::vector<std::string>& command, const ProcessOptions& options) {
  Pipe in, out, err;
  // Before the child can write, or its first bytes would still find a reader.
  if (options.output == ProcessOptions::Output::pipe_without_reader) Pipe::close_end(out.read_end);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) become(command, options, in.read_end, out.write_end, err.write_end);
  Pipe::close_end(in.read_end);
  Pipe::close_end(out.write_end);
  Pipe::close_end(err.write_end);

  // A program that does not read its input must not kill or block this one.
  struct sigaction ignore {
  }, before{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, &before);
  ::fcntl(in.write_end, F_SETFL, O_NONBLOCK);

  if (options.before_input) options.before_input(child);
  ProcessResult result;
  std::size_t sent = 0;
  bool interrupted = false;
  while (out.read_end >= 0 || err.read_end >= 0) {
    if (in.write_end >= 0 && sent == options.input.size()) Pipe::close_end(in.write_end);
    std::array<pollfd, 3> ends{{{out.read_end, POLLIN, 0}, {err.read_end, POLLIN, 0}, {in.write_end, POLLOUT, 0}}};
    if (::poll(ends.data(), ends.size(), -1) < 0) continue;
    if (ends[0].revents != 0) drain(out.read_end, result.output);
    if (ends[1].revents != 0) drain(err.read_end, result.error);
    if (ends[2].revents != 0) {
      const ssize_t count = ::write(in.write_end, options.input.data() + sent, options.input.size() - sent);
      if (count > 0) sent += static_cast<std::size_t>(count);
      if (count < 0 && errno != EAGAIN && errno != EINTR) Pipe::close_end(in.write_end);
    }
    if (options.interrupt_at_output && !interrupted && !result.output.empty()) {
      ::kill(child, SIGINT);
      interrupted = true;
    }
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  ::sigaction(SIGPIPE, &before, nullptr);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

ProcessResult run_tqkv(std::vector<std::string> arguments, const ProcessOptions& options) {
  arguments.insert(arguments.begin(), test::program());
  return run(arguments, options);
}

}  // namespace tqkv::test

#include "cli/terminal/history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include "base/file.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

namespace fs = std::filesystem;

/// A text as a line: line breaks and backslashes are written as \n and two backslashes.
std::string to_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n' || c == '\\') line += '\\';
    line += c == '\n' ? 'n' : c;
  }
  return line + '\n';
}

std::string from_line(std::string_view line) {
  std::string text;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\' || i + 1 == line.size())
      text += line[i];
    else
      text += line[++i] == 'n' ? '\n' : line[i];
  }
  return text;
}

void write(const fs::path& path, const std::vector<std::string>& texts) try {
  AtomicFile file(path, S_IRUSR | S_IWUSR);
  for (const std::string& text : texts) file.write(to_line(text));
  file.commit();
} catch (const Error&) {
}

}  // namespace

fs::path history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state && fs::path(state).is_absolute()) return fs::path(state) / "tqkv" / "history";
  const char* home = std::getenv("HOME");
  if (home && fs::path(home).is_absolute()) return fs::path(home) / ".local" / "state" / "tqkv" / "history";
  return {};
}

std::vector<std::string> read_history(const fs::path& path) try {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return {};
  std::vector<std::string> texts;
  const std::string lines = read_text(path);
  for (std::size_t start = 0, end = 0; start < lines.size(); start = end + 1) {
    end = std::min(lines.find('\n', start), lines.size());
    texts.push_back(from_line(std::string_view(lines).substr(start, end - start)));
  }
  const bool long_file = texts.size() >= 2 * longest_history;
  if (texts.size() > longest_history) texts.erase(texts.begin(), texts.end() - longest_history);
  if (long_file) write(path, texts);
  return texts;
} catch (const Error&) {
  return {};
}

void append_history(const fs::path& path, std::string_view text) {
  if (path.empty()) return;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const int file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, S_IRUSR | S_IWUSR);
  if (file < 0) return;
  struct stat status {};
  if (::fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
    const std::string line = to_line(text);
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) static_cast<void>(::fchmod(file, S_IRUSR | S_IWUSR));
    static_cast<void>(!::write(file, line.data(), line.size()));
  }
  ::close(file);
}

}  // namespace tqkv::cli

#include "loaders/hub.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string>

#include "base/file.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;

bool is_name_part(std::string_view part) {
  if (part.empty() || part.size() > 96 || part.front() == '.' || part.front() == '-') return false;
  if (part.back() == '.' || part.back() == '-' || part.find("..") != std::string_view::npos) return false;
  if (part.find("--") != std::string_view::npos) return false;  // the cache writes "/" so
  for (const char c : part) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && c != '.' && c != '-' && c != '_') return false;
  }
  return true;
}

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

/// "~/x" as the shell and huggingface_hub read it.
fs::path expanded(const std::string& path) {
  if (path == "~" || path.substr(0, 2) == "~/") return fs::path(environment("HOME") + path.substr(1));
  return fs::path(path);
}

std::string fetch_command(std::string_view name) {
  // The size is known for the checkpoint that everybody starts with (bytes of its files, 2026-02-24).
  const char* size = name == "mlx-community/Qwen3.5-35B-A3B-4bit" ? " (20.4 GB needed)" : "";
  return fmt::format("fetch it{} with: hf download {}", size, name);
}

}  // namespace

bool is_hub_name(std::string_view text) {
  const std::size_t slash = text.find('/');
  return slash != std::string_view::npos && is_name_part(text.substr(0, slash)) && is_name_part(text.substr(slash + 1));
}

fs::path hub_cache() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string path = environment(variable); !path.empty()) return expanded(path);
  if (const std::string home = environment("HF_HOME"); !home.empty()) return expanded(home) / "hub";
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return expanded(cache) / "huggingface" / "hub";
  if (const std::string home = environment("HOME"); !home.empty())
    return fs::path(home) / ".cache" / "huggingface" / "hub";
  return {};
}

fs::path find_in_hub_cache(std::string_view name, const fs::path& cache) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::checkpoint, fmt::format("{}: {}; {}", name, what, fetch_command(name)));
  };
  if (cache.empty())
    fail("there is no such directory here, and no Hugging Face cache: neither HF_HOME nor HOME is set");
  std::string folder = "models--" + std::string(name);
  folder.replace(folder.find('/'), 1, "--");
  const fs::path repository = cache / folder;
  std::error_code error;
  if (!fs::is_directory(repository, error))
    fail(fmt::format("there is no such directory here, and the Hugging Face cache has no {}", repository.string()));
  const fs::path branch = repository / "refs" / "main";
  if (!fs::exists(branch, error))
    fail(fmt::format("{} is not there: the main branch was not downloaded", branch.string()));
  std::string commit = read_text(branch, 4096);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r' || commit.back() == ' ')) commit.pop_back();
  if (!plain_file_name(commit)) fail(fmt::format("{} holds \"{}\", expected a commit", branch.string(), shown(commit)));
  fs::path snapshot = repository / "snapshots" / commit;
  if (!fs::is_directory(snapshot, error))
    fail(fmt::format("{} is not there: the download is incomplete", snapshot.string()));
  return snapshot;
}

}  // namespace tqkv

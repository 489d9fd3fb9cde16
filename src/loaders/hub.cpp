#include "loaders/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "loaders/published.h"
#include "loaders/shards.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_revision = 200;

bool letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_name_part(std::string_view part) {
  if (part.empty() || part.size() > 96 || part.front() == '.' || part.front() == '-') return false;
  if (part.back() == '.' || part.back() == '-' || part.find("..") != std::string_view::npos) return false;
  if (part.find("--") != std::string_view::npos) return false;  // the cache writes "/" so
  return std::all_of(part.begin(), part.end(),
                     [](char c) { return letter_or_digit(c) || c == '.' || c == '-' || c == '_'; });
}

bool is_repository(std::string_view text) {
  const std::size_t slash = text.find('/');
  return slash != std::string_view::npos && is_name_part(text.substr(0, slash)) && is_name_part(text.substr(slash + 1));
}

/// A revision is a path below refs/: no segment of it may lead elsewhere.
bool is_revision(std::string_view text) {
  if (text.empty() || text.size() > longest_revision) return false;
  while (true) {
    const std::size_t slash = text.find('/');
    const std::string_view segment = text.substr(0, slash);
    if (segment.empty() || segment.front() == '.' || segment.front() == '-' ||
        segment.find("..") != std::string_view::npos)
      return false;
    for (const char c : segment)
      if (!letter_or_digit(c) && c != '.' && c != '-' && c != '_' && c != '+') return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

std::string fetch_command(const HubName& name) {
  const PublishedCheckpoint* published = published_checkpoint(name.id);
  const std::string size =
      published ? fmt::format(" ({:.1f} GB needed)", static_cast<double>(published->bytes()) / 1e9) : "";
  const std::string offline = offline_variable();
  const std::string first = offline.empty() ? "" : fmt::format("{} is set: unset it, then ", offline);
  return fmt::format("{}fetch it{} with: tqkv pull {}", first, size, name.text());
}

/// The path of an address on the hub, without what stands behind "?" and "#"; nothing for another address or a name.
std::optional<std::string_view> path_on_hub(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://", "HTTPS://", "HTTP://"})
    if (text.starts_with(scheme)) {
      text.remove_prefix(scheme.size());
      break;
    }
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  std::string host(text.substr(0, slash));
  for (char& c : host)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (host != "huggingface.co" && host != "www.huggingface.co" && host != "hf.co") return std::nullopt;
  text.remove_prefix(slash + 1);
  text = text.substr(0, text.find_first_of("?#"));
  while (text.ends_with('/')) text.remove_suffix(1);
  return text;
}

/// "org/name", and behind "/tree/" a revision; behind "/blob/" and "/resolve/" a revision and a file.
std::string name_of_page(std::string_view path) {
  const std::size_t org = path.find('/');
  const std::size_t name = org == std::string_view::npos ? org : path.find('/', org + 1);
  if (name == std::string_view::npos) return std::string(path);
  std::string id(path.substr(0, name));
  const std::string_view rest = path.substr(name + 1);
  if (rest == "tree/main" || rest == "tree") return id;
  for (const std::string_view page : {"tree/", "blob/", "resolve/"}) {
    if (!rest.starts_with(page)) continue;
    std::string_view revision = rest.substr(page.size());
    if (!revision.starts_with("refs/")) revision = revision.substr(0, revision.find('/'));
    std::string decoded(revision);
    for (std::size_t at; (at = decoded.find("%2F")) != std::string::npos;) decoded.replace(at, 3, "/");
    return id + "@" + decoded;
  }
  return std::string(path);
}

}  // namespace

std::string HubName::text() const {
  return revision == "main" ? id : id + "@" + revision;
}

std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name;
  std::string page;
  if (const auto path = path_on_hub(text)) text = page = name_of_page(*path);
  const std::size_t at = text.find('@');
  name.id = text.substr(0, at);
  if (at != std::string_view::npos) name.revision = text.substr(at + 1);
  if (!is_repository(name.id) || !is_revision(name.revision)) return std::nullopt;
  return name;
}

bool is_commit(std::string_view text) {
  return text.size() == 40 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::string hub_folder(const HubName& name) {
  std::string folder = "models--" + name.id;
  folder.replace(folder.find('/'), 1, "--");
  return folder;
}

bool is_on(const char* variable) {
  std::string value = environment(variable);
  for (char& c : value)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string offline_variable() {
  for (const char* variable : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"})
    if (is_on(variable)) return variable;
  return "";
}

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

fs::path expanded(const std::string& path) {
  if (path == "~" || path.substr(0, 2) == "~/") return fs::path(environment("HOME") + path.substr(1));
  return fs::path(path);
}

fs::path hub_home() {
  if (const std::string home = environment("HF_HOME"); !home.empty()) return expanded(home);
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty()) return expanded(cache) / "huggingface";
  if (const std::string home = environment("HOME"); !home.empty()) return fs::path(home) / ".cache" / "huggingface";
  return {};
}

fs::path hub_cache() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string path = environment(variable); !path.empty()) return expanded(path);
  const fs::path home = hub_home();
  return home.empty() ? fs::path() : home / "hub";
}

fs::path find_in_hub_cache(const HubName& name, const fs::path& cache) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::checkpoint, fmt::format("{}: {}; {}", name.text(), what, fetch_command(name)));
  };
  if (cache.empty())
    fail("there is no such directory here, and no Hugging Face cache: neither HF_HOME nor HOME is set");
  const fs::path repository = cache / hub_folder(name);
  std::error_code error;
  if (!fs::is_directory(repository, error))
    fail(fmt::format("there is no such directory here, and the Hugging Face cache has no {}", repository.string()));
  std::string commit = name.revision;
  if (!is_commit(commit)) {
    const fs::path reference = repository / "refs" / name.revision;
    if (!fs::exists(reference, error))
      fail(fmt::format("{} is not there: the {} was not downloaded", reference.string(),
                       name.revision == "main" ? "main branch" : "revision"));
    commit = read_text(reference, 4096);
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r' || commit.back() == ' '))
      commit.pop_back();
    if (!plain_file_name(commit))
      fail(fmt::format("{} holds \"{}\", expected a commit", reference.string(), shown(commit)));
  }
  fs::path snapshot = repository / "snapshots" / commit;
  if (!fs::is_directory(snapshot, error))
    fail(fmt::format("{} is not there: the download is incomplete", snapshot.string()));
  return snapshot;
}

std::string missing_from(const fs::path& snapshot) {
  std::error_code error;
  for (const char* file : {"config.json", "tokenizer.json"})
    if (!fs::exists(snapshot / file, error)) return file;
  try {
    const WeightMap index = read_index(snapshot);
    if (const auto missing = missing_shard(files_of(snapshot), index)) return *missing;
    shard_files(snapshot, index);
  } catch (const Error&) {
    return "a readable index of its weights, or model.safetensors";
  }
  return "";
}

}  // namespace tqkv

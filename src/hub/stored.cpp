#include "hub/stored.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <optional>
#include <set>
#include <system_error>

#include "base/file.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "models--";

[[noreturn]] void fail(const fs::path& path, std::string_view what, const std::error_code& error) {
  throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, error.message()));
}

bool is_real_folder(const fs::path& folder) {
  std::error_code error;
  return fs::is_directory(fs::symlink_status(folder, error));
}

/// The entries of a folder in the order of their names; none of one that cannot be read, or that is a link.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> paths;
  if (!is_real_folder(folder)) return paths;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) paths.push_back(entry->path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// Everything below a folder but folders; links to folders are not entered.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::path& path : entries_of(folder)) {
    std::error_code error;
    if (!fs::is_directory(fs::symlink_status(path, error))) {
      files.push_back(path);
      continue;
    }
    const std::vector<fs::path> inner = files_below(path);
    files.insert(files.end(), inner.begin(), inner.end());
  }
  return files;
}

/// Bytes of a file itself; 0 of a link.
std::uint64_t own_bytes(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size)
                                                                        : 0;
}

/// Bytes of what a path leads to.
std::uint64_t bytes_behind(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
}

/// Nothing for a folder of the cache that is no model.
std::optional<HubName> name_of(const fs::path& folder) {
  std::string text = folder.filename().string();
  if (!text.starts_with(prefix)) return std::nullopt;
  text.erase(0, prefix.size());
  const std::size_t separator = text.find("--");
  if (separator == std::string::npos) return std::nullopt;
  return parse_hub_name(text.replace(separator, 2, "/"));
}

std::string commit_in(const fs::path& reference) {
  if (own_bytes(reference) == 0) return "";
  try {
    std::string text = read_text(reference, 4096);
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
    return text;
  } catch (const Error&) {
    return "";
  }
}

/// References of a repository that are `commit`.
std::vector<fs::path> references_to(const fs::path& repository, const std::string& commit) {
  std::vector<fs::path> found;
  for (const fs::path& reference : files_below(repository / "refs"))
    if (commit_in(reference) == commit) found.push_back(reference);
  return found;
}

/// Names of the blobs that a snapshot links to.
std::set<std::string> blobs_of(const fs::path& snapshot) {
  std::set<std::string> blobs;
  for (const fs::path& file : files_below(snapshot)) {
    std::error_code error;
    const fs::path target = fs::read_symlink(file, error);
    if (!error && target.parent_path().filename() == "blobs") blobs.insert(target.filename().string());
  }
  return blobs;
}

StoredModel stored_model(const fs::path& folder, const std::string& id) {
  StoredModel model;
  model.id = id;
  model.folder = folder;
  for (const fs::path& file : files_below(folder)) {
    model.bytes += own_bytes(file);
    if (file.extension() == ".incomplete") model.unfinished += own_bytes(file);
  }
  for (const fs::path& snapshot : entries_of(folder / "snapshots")) {
    if (!is_real_folder(snapshot)) continue;
    StoredRevision revision;
    revision.commit = snapshot.filename().string();
    for (const fs::path& reference : references_to(folder, revision.commit))
      revision.names.push_back(reference.lexically_relative(folder / "refs").string());
    for (const fs::path& file : files_below(snapshot)) revision.bytes += bytes_behind(file);
    revision.missing = missing_from(snapshot);
    model.revisions.push_back(std::move(revision));
  }
  return model;
}

/// The locks of a repository, all of them: while one lives no other process downloads to it.
class RepositoryLocks {
 public:
  RepositoryLocks(const fs::path& folder, const std::string& id) {
    for (const fs::path& path : entries_of(folder)) {
      const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
      if (descriptor < 0) continue;
      descriptors_.push_back(descriptor);
      if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) continue;
      release();
      throw Error(ErrorKind::hub,
                  fmt::format("{}: another process is downloading it: wait for its end, or end it", id));
    }
  }
  ~RepositoryLocks() { release(); }
  RepositoryLocks(const RepositoryLocks&) = delete;
  RepositoryLocks& operator=(const RepositoryLocks&) = delete;

 private:
  void release() {
    for (const int descriptor : descriptors_) ::close(descriptor);
    descriptors_.clear();
  }
  std::vector<int> descriptors_;
};

void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) fail(path, "cannot be removed", error);
}

/// remove_all() removes links and does not follow them.
void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "cannot be removed", error);
}

}  // namespace

bool StoredModel::whole() const {
  return std::any_of(revisions.begin(), revisions.end(),
                     [](const StoredRevision& revision) { return revision.missing.empty(); });
}

std::vector<StoredModel> stored_models(const fs::path& cache) {
  std::vector<StoredModel> models;
  if (cache.empty()) return models;
  std::error_code error;
  const fs::path root = fs::canonical(cache, error);  // the cache itself may be a link
  if (error == std::errc::no_such_file_or_directory) return models;
  if (!error) static_cast<void>(fs::directory_iterator(root, error));
  if (error) fail(cache, "cannot be read", error);
  for (const fs::path& folder : entries_of(root))
    if (const auto name = name_of(folder); name && is_real_folder(folder))
      models.push_back(stored_model(folder, name->id));
  return models;
}

Removal plan_removal(const fs::path& cache, const HubName& name, bool everything) {
  const auto absent = [&](const std::string& what) {
    throw Error(ErrorKind::checkpoint, fmt::format("{}: {}: see 'tqkv models'", name.text(), what));
  };
  if (cache.empty()) absent("there is no Hugging Face cache: neither HF_HOME nor HOME is set");
  Removal removal;
  removal.name = name;
  removal.folder = cache / hub_folder(name);
  std::error_code error;
  if (fs::is_symlink(fs::symlink_status(removal.folder, error)))
    throw Error(ErrorKind::io, fmt::format("{}: is a link, whose target is not this cache's to remove: remove the link "
                                           "by hand",
                                           removal.folder.string()));
  if (!is_real_folder(removal.folder)) absent(fmt::format("is not in the cache {}", cache.string()));
  const std::vector<fs::path> snapshots = entries_of(removal.folder / "snapshots");
  if (!everything) {
    std::string commit = name.revision;
    if (!is_commit(commit)) commit = commit_in(removal.folder / "refs" / name.revision);
    const fs::path snapshot = removal.folder / "snapshots" / commit;
    if (std::find(snapshots.begin(), snapshots.end(), snapshot) == snapshots.end())
      absent(fmt::format("is not in the cache {}", cache.string()));
    removal.everything = snapshots.size() == 1;
    if (!removal.everything) {
      removal.commits.push_back(commit);
      std::set<std::string> kept;
      for (const fs::path& other : snapshots)
        if (other != snapshot) kept.merge(blobs_of(other));
      for (const std::string& blob : blobs_of(snapshot))
        if (!kept.contains(blob) && is_real_folder(removal.folder / "blobs"))
          removal.files.push_back(removal.folder / "blobs" / blob);
      for (const fs::path& blob : removal.files) removal.bytes += own_bytes(blob);
      for (const fs::path& file : files_below(snapshot)) removal.bytes += own_bytes(file);
      for (const fs::path& reference : references_to(removal.folder, commit)) removal.files.push_back(reference);
      return removal;
    }
  }
  removal.everything = true;
  for (const fs::path& snapshot : snapshots) removal.commits.push_back(snapshot.filename().string());
  for (const fs::path& file : files_below(removal.folder)) removal.bytes += own_bytes(file);
  return removal;
}

void remove(const fs::path& cache, const Removal& removal) {
  const fs::path folder = cache / hub_folder(removal.name), locks = cache / ".locks" / hub_folder(removal.name);
  const RepositoryLocks held(locks, removal.name.text());
  if (!is_real_folder(folder))
    throw Error(ErrorKind::io, fmt::format("{}: is no folder any more: nothing was removed", folder.string()));
  if (removal.everything) {
    // In one step first, so that no program finds half a model.
    const fs::path going = cache / fmt::format(".removed-{}-{}", ::getpid(), hub_folder(removal.name));
    std::error_code error;
    fs::rename(folder, going, error);
    if (error) fail(folder, "cannot be removed", error);
    remove_folder(going);
    for (const fs::path& other : entries_of(cache))  // of a removal that was killed
      if (other.filename().string().starts_with(".removed-")) fs::remove_all(other, error);
    if (is_real_folder(locks)) remove_folder(locks);
    return;
  }
  // References first: a snapshot that is half gone is then nobody's.
  for (const fs::path& file : removal.files)
    if (file.parent_path().filename() != "blobs") remove_file(file);
  for (const std::string& commit : removal.commits) remove_folder(folder / "snapshots" / commit);
  for (const fs::path& file : removal.files)
    if (file.parent_path().filename() == "blobs") remove_file(file);
}

}  // namespace tqkv::hub

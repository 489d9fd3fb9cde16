#include "server/prefix/prefix_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/file.h"
#include "runtime/devices.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

namespace tqkv::server {
namespace {

constexpr std::string_view ending = ".prefix";

std::string_view name(Border border) {
  switch (border) {
    case Border::system:
      return "system";
    case Border::question:
      return "question";
    case Border::inside:
      return "inside";
    default:
      return "answer";
  }
}

std::optional<Border> border_of(std::string_view file) {
  for (const Border border : {Border::system, Border::question, Border::answer, Border::inside})
    if (file.starts_with(std::string(name(border)) + "-")) return border;
  return std::nullopt;
}

/// The same for the same tokens in the same format.
std::string name_of(const Session& session, Border border) {
  const CacheReport cache = session.cache();
  const std::string format = cache.format.canonical() + std::string(tqkv::name(cache.state));
  const std::uint64_t parts[] = {checksum(std::as_bytes(session.ids())),
                                 checksum(std::as_bytes(std::span(format.data(), format.size())))};
  return fmt::format("{}-{:016x}{}", name(border), checksum(std::as_bytes(std::span(parts))), ending);
}

}  // namespace

PrefixFiles::PrefixFiles(std::filesystem::path folder, const Engine& engine, Log log)
    : folder_(std::move(folder)), engine_(engine), log_(std::move(log)) {
  std::error_code problem;
  std::filesystem::create_directories(folder_, problem);
  if (problem || !std::filesystem::is_directory(folder_))
    throw Error(ErrorKind::io, fmt::format("{}: is no folder and cannot be made: {}", folder_.string(),
                                           problem ? problem.message() : "there is something else"));
  const AtomicFile first(folder_ / "writable");  // throws where no file can be made, before a state is computed for it
}

void PrefixFiles::load(PrefixTree& tree) {
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> files;
  std::error_code problem;
  for (std::filesystem::directory_iterator file(folder_, problem), end; !problem && file != end;
       file.increment(problem)) {
    const std::string own = file->path().filename().string();
    if (own.ends_with(ending) && border_of(own)) files.emplace_back(file->last_write_time(problem), file->path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& [time, path] : files) {
    try {
      const SavedSession saved = SavedSession::open(path);
      if (saved.identity().device != bits_of(engine_.device().device))
        throw Error(ErrorKind::session, path.string() + ": was computed on another device, whose bits differ");
      SessionOptions options;
      options.context = saved.tokens();
      std::unique_ptr<Session> session = engine_.restore(saved, options);
      const Border border = *border_of(path.filename().string());
      const std::string expected = name_of(*session, border);
      if (expected != path.filename().string()) throw Error(ErrorKind::session, path.string() + ": has another text");
      tree.adopt(std::move(session), border);
      present_.insert(expected);
    } catch (const Error& error) {
      log_(fmt::format("{} is left alone: {}", path.filename().string(), error.what()));
    }
  }
}

bool PrefixFiles::save_one(const PrefixTree& tree) {
  if (seen_ == tree.changes()) return false;
  std::map<std::string, const Session*> wanted;
  tree.for_each([&](const Session& session, Border border) { wanted.emplace(name_of(session, border), &session); });
  const auto gone = std::ranges::find_if(present_, [&](const std::string& file) { return !wanted.contains(file); });
  if (gone != present_.end()) {
    std::error_code ignored;
    std::filesystem::remove(folder_ / *gone, ignored);
    present_.erase(gone);
    return true;
  }
  const auto missing = std::ranges::find_if(wanted, [&](const auto& one) { return !present_.contains(one.first); });
  if (missing == wanted.end()) {
    seen_ = tree.changes();
    return false;
  }
  try {
    missing->second->save(folder_ / missing->first);
    present_.insert(missing->first);
    refused_ = false;
    return true;
  } catch (const Error& error) {
    if (!std::exchange(refused_, true)) log_(fmt::format("a prefix is not saved: {}", error.what()));
    seen_ = tree.changes();  // until something changes again
    return false;
  }
}

}  // namespace tqkv::server

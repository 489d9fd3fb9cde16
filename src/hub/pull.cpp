#include "hub/pull.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>

#include "base/file.h"
#include "base/numbers.h"
#include "hub/cache.h"
#include "hub/download.h"
#include "hub/workers.h"
#include "loaders/shards.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

namespace fs = std::filesystem;

void require_cache(const Settings& settings, const HubName& name) {
  if (settings.cache.empty())
    throw Error(
        ErrorKind::checkpoint,
        fmt::format("{}: there is no place for it: neither HF_HUB_CACHE nor HF_HOME nor HOME is set", name.text()));
}

/// A repository that lacks a part of its weights: by the names of the others, or by its index.
void require_shards(const Settings& settings, const HubName& name, const std::vector<std::string>& paths,
                    const WeightMap& index) {
  if (const auto missing = missing_shard(paths, index))
    fail_hub(fmt::format("{}: {}: {} is one of its weights{}, but the repository does not have it: none were fetched",
                         settings.endpoint, name.text(), shown(*missing),
                         index.empty() ? "" : fmt::format(" according to {}", index_file)));
}

/// What a checkpoint cannot do without, so that nobody waits for gigabytes of something else.
void require_checkpoint(const Settings& settings, const HubName& name, const std::vector<std::string>& paths) {
  const auto has = [&](auto matches) { return std::any_of(paths.begin(), paths.end(), matches); };
  for (const std::string_view file : {"config.json", "tokenizer.json"})
    if (!has([&](const std::string& path) { return path == file; }))
      fail_hub(
          fmt::format("{}: {}: has no {}: it is no checkpoint that tqkv runs", settings.endpoint, name.text(), file));
  if (!has([](const std::string& path) { return path.ends_with(".safetensors"); }))
    fail_hub(fmt::format("{}: {}: has no weights in safetensors format", settings.endpoint, name.text()));
  require_shards(settings, name, paths, {});
}

void require_space(const PullPlan& plan, const fs::path& cache) {
  if (plan.missing_bytes() <= plan.free_bytes) return;
  throw Error(
      ErrorKind::io,
      fmt::format("{}: {} bytes of {} are missing, but the disk has {} free: make room, or set HF_HUB_CACHE to a "
                  "folder on another disk",
                  cache.string(), grouped(plan.missing_bytes()), plan.name.text(), grouped(plan.free_bytes)));
}

/// Without links every file is there twice: as a blob, and as a copy in the snapshot.
void require_space_for_copies(const PullPlan& plan, const fs::path& cache) {
  std::uint64_t needed = plan.missing_bytes();
  for (const PlannedFile& file : plan.files)
    if (!file.copied && __builtin_add_overflow(needed, file.file.bytes, &needed)) needed = UINT64_MAX;
  if (needed <= plan.free_bytes) return;
  throw Error(
      ErrorKind::io,
      fmt::format("{}: the file system has no links, so that {} takes {} bytes with the copies, but the disk has "
                  "{} free: make room, or set HF_HUB_CACHE to a folder on another disk",
                  cache.string(), plan.name.text(), grouped(needed), grouped(plan.free_bytes)));
}

/// A connection a worker, made when it is first needed.
class Clients {
 public:
  Clients(const Settings& settings, const Stop& stop, std::size_t workers)
      : settings_(settings), stop_(stop), clients_(workers) {}
  Client& operator[](std::size_t worker) {
    if (!clients_[worker]) clients_[worker] = std::make_unique<Client>(settings_, stop_);
    return *clients_[worker];
  }

 private:
  const Settings& settings_;
  const Stop& stop_;
  std::vector<std::unique_ptr<Client>> clients_;
};

std::size_t workers_of(const Settings& settings) {
  return static_cast<std::size_t>(std::max(settings.connections, 1));
}

/// The bytes of a plan never wrap around: a hub may announce anything.
void require_sum(const std::string& where, const std::vector<PlannedFile>& files) {
  std::uint64_t sum = 0;
  for (const PlannedFile& file : files)
    if (__builtin_add_overflow(sum, file.file.bytes, &sum))
      fail_hub(fmt::format("{}: announces more bytes than there are", where));
}

}  // namespace

std::uint64_t PullPlan::bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedFile& file : files) sum += file.file.bytes;
  return sum;
}

std::uint64_t PullPlan::missing_bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedFile& file : files) sum += file.file.bytes - file.kept;
  return sum;
}

bool is_needed(std::string_view path) {
  if (path.find('/') != std::string_view::npos) return false;
  for (const std::string_view name : {"config.json", "generation_config.json", "tokenizer.json",
                                      "tokenizer_config.json", "chat_template.jinja", "model.safetensors.index.json"})
    if (path == name) return true;
  return path.ends_with(".safetensors");
}

PullPlan plan_pull(const Settings& settings, const HubName& name, const std::atomic<bool>* cancel) {
  require_cache(settings, name);
  if (!settings.offline.empty())
    fail_hub(
        fmt::format("{} is not asked for {}: {} is set: unset it", settings.endpoint, name.text(), settings.offline));
  Stop stop(cancel);
  try {
    Clients clients(settings, stop, workers_of(settings));
    const Listing listing = clients[0].list(name);
    std::vector<std::string> paths;
    for (const ListedFile& file : listing.files)
      if (is_needed(file.path)) paths.push_back(file.path);
    std::sort(paths.begin(), paths.end());
    paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
    require_checkpoint(settings, name, paths);

    PullPlan plan{name, listing.commit, std::vector<PlannedFile>(paths.size()), free_space(settings.cache).value_or(0)};
    for_all(
        paths.size(), workers_of(settings), stop,
        [&](std::size_t worker, std::size_t i) {
          plan.files[i].file = clients[worker].metadata(name, listing.commit, paths[i]);
        },
        [] {});
    require_sum(fmt::format("{}: {}", settings.endpoint, name.text()), plan.files);
    const RepositoryCache cache(settings.cache, name);
    for (PlannedFile& planned : plan.files) {
      const FileMetadata& file = planned.file;
      planned.copied = cache.has_copy(plan.commit, file.path, file.bytes);
      planned.kept = planned.copied ? file.bytes : cache.bytes_kept(file.etag, file.bytes);
    }
    return plan;
  } catch (const Stopped&) {
    fail_hub(fmt::format("{}: {}: interrupted", settings.endpoint, name.text()));
  }
}

PullPlan plan_pull(const Settings& settings, const PublishedCheckpoint& published) {
  PullPlan plan;
  plan.name.id = published.id;
  plan.commit = published.revision;
  require_cache(settings, plan.name);
  plan.free_bytes = free_space(settings.cache).value_or(0);
  const RepositoryCache cache(settings.cache, plan.name);
  std::error_code error;
  for (const PublishedFile& file : published.files) {
    PlannedFile planned{{std::string(file.path), std::string(file.sha256), file.bytes}, 0};
    planned.kept = cache.bytes_kept(planned.file.etag, file.bytes);
    // The blobs of small files have names of another kind: the snapshot has them under their own.
    const fs::path place = cache.snapshot(plan.commit) / file.path;
    if (fs::is_regular_file(place, error) && fs::file_size(place, error) == file.bytes) planned.kept = file.bytes;
    planned.copied = cache.has_copy(plan.commit, planned.file.path, file.bytes);
    plan.files.push_back(std::move(planned));
  }
  return plan;
}

PullResult pull(const Settings& settings, const PullPlan& plan, const std::atomic<bool>* cancel,
                const PullEvents& events) {
  require_space(plan, settings.cache);
  const RepositoryCache cache(settings.cache, plan.name);
  cache.prepare(plan.commit);
  if (!cache.has_links()) require_space_for_copies(plan, settings.cache);

  Transfer transfer;
  transfer.kept = plan.bytes() - plan.missing_bytes();
  std::mutex mutex;
  std::vector<std::function<void()>> news;  // for the thread that called
  const auto tell = [&](std::function<void()> what) {
    const std::scoped_lock lock(mutex);
    news.push_back(std::move(what));
  };
  const auto progress = [&] { return PullProgress{transfer.kept.load(), plan.bytes(), transfer.received.load()}; };
  const auto watch = [&] {
    std::vector<std::function<void()>> now;
    {
      const std::scoped_lock lock(mutex);
      now.swap(news);
    }
    for (const auto& what : now) what();
    if (events.progress) events.progress(progress());
  };

  // Small files first: what is wrong with a repository shows soon. Weights only when the index agrees with the list.
  std::vector<std::size_t> order(plan.files.size());
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (const PlannedFile& planned : plan.files) paths.push_back(planned.file.path);
  const auto is_weights = [&](std::size_t i) { return paths[i].ends_with(".safetensors"); };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(is_weights(a), plan.files[a].file.bytes) < std::pair(is_weights(b), plan.files[b].file.bytes);
  });
  const auto others = static_cast<std::size_t>(
      std::count_if(order.begin(), order.end(), [&](std::size_t i) { return !is_weights(i); }));
  Stop stop(cancel);
  Clients clients(settings, stop, workers_of(settings));
  PullResult result;
  result.snapshot = cache.snapshot(plan.commit);
  try {
    const auto fetch = [&](std::size_t first, std::size_t last) {
      for_all(
          last - first, workers_of(settings), stop,
          [&](std::size_t worker, std::size_t i) {
            const PlannedFile& planned = plan.files[order[first + i]];
            const FileMetadata& file = planned.file;
            if (planned.copied) return;  // where there are no links: huggingface_hub keeps no blob there
            download(clients[worker], settings, stop, plan.name, plan.commit, file, planned.kept, cache, transfer, [&] {
              if (events.waiting) tell([&events, &file] { events.waiting(file); });
            });
            cache.link(plan.commit, file.path, file.etag);
            if (events.complete) tell([&events, &planned] { events.complete(planned); });
          },
          watch);
    };
    fetch(0, others);
    require_shards(settings, plan.name, paths, read_index(result.snapshot));
    fetch(others, order.size());
  } catch (const Stopped&) {
    result.interrupted = true;
  }
  result.progress = progress();
  if (result.interrupted) return result;
  if (const std::string missing = missing_from(result.snapshot); !missing.empty())
    fail_hub(fmt::format("{}: {}: has no {}: it is no whole checkpoint", settings.endpoint, plan.name.text(),
                         shown(missing)));
  cache.point(plan.name.revision, plan.commit);
  return result;
}

}  // namespace tqkv::hub

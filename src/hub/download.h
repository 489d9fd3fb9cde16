// One file from a hub into the cache: from where it stopped last time, checked, and under its name only when whole.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "hub/cache.h"
#include "hub/protocol.h"

namespace tqkv::hub {

/// What several downloads add to, for whoever watches.
struct Transfer {
  std::atomic<std::uint64_t> kept{0};      ///< bytes that are here, whenever they came
  std::atomic<std::uint64_t> received{0};  ///< bytes that came over the network now, those thrown away included
};

/// After it `cache` has the blob of `file`, of which `transfer` counts `kept` bytes already.
/// `waiting` is called when another process downloads the same blob. Throws Error(hub), Error(io) and Stopped; what
/// came stays for the next time, unless it was wrong.
void download(Client& client, const Settings& settings, const Stop& stop, const HubName& name,
              const std::string& commit, const FileMetadata& file, std::uint64_t kept, const RepositoryCache& cache,
              Transfer& transfer, const std::function<void()>& waiting);

}  // namespace tqkv::hub

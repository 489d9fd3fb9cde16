// What tests of several sessions share: ids to feed, and all that a session has, as its file.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "support/temporary_directory.h"
#include "tqkv/session.h"

namespace tqkv::test {

/// [count] ids of ordinary tokens; the same for the same seed.
inline std::vector<int> some_ids(unsigned seed, int count) {
  std::vector<int> ids;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    ids.push_back(static_cast<int>(seed >> 16) % 2000 + 10);
  }
  return ids;
}

/// The bytes of its file: equal where everything that is stored is.
inline std::string saved(const Session& session) {
  const TemporaryDirectory directory;
  session.save(directory.path() / "one.session");
  return read_text(directory.path() / "one.session");
}

}  // namespace tqkv::test

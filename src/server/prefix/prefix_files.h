// PrefixFiles: kept states on disk, so that they outlive the program. A file is whole or not there.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "server/prefix/prefix_tree.h"

namespace tqkv::server {

class PrefixFiles {
 public:
  using Log = std::function<void(std::string_view line)>;

  /// Makes the folder where it is not there. Throws Error(io).
  PrefixFiles(std::filesystem::path folder, const Engine& engine, Log log);

  /// Takes what is there into the tree, the newest file last. Files of another model or version are named and left.
  void load(PrefixTree& tree);
  /// Writes one state of the tree that has no file, or removes the file of one that was let go; false when there is
  /// nothing to do, or the disk refuses.
  bool save_one(const PrefixTree& tree);

 private:
  std::filesystem::path folder_;
  const Engine& engine_;
  Log log_;
  std::set<std::string> present_;  // names of our files
  std::uint64_t seen_ = 0;         // changes of the tree that are on disk
  bool refused_ = false;           // by the disk, and told
};

}  // namespace tqkv::server

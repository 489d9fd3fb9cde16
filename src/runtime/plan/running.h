// Processes of tqkv on this machine: each that runs a model says so in a file that it keeps locked, so that the next
// one can count what the first has planned but not taken yet.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/temporaries.h"
#include "tqkv/memory_plan.h"

namespace tqkv {

struct RunningProcess {
  int pid = 0;
  std::string model;                // as its user named it
  std::filesystem::path directory;  // of the checkpoint, canonical
  std::uint64_t weights = 0;        // bytes that it maps
  std::uint64_t anonymous = 0;      // bytes that it has planned
  std::uint64_t resident = 0;       // bytes of anonymous memory that it holds now
  /// Bytes that it will still take.
  std::uint64_t promised() const { return anonymous > resident ? anonymous - resident : 0; }
};

/// Where they say so: a folder of this user alone, in XDG_RUNTIME_DIR or else beside the temporary files.
std::filesystem::path running_folder();

/// The other processes in `folder` that live. Files of those that ended are removed. Never throws: what cannot be read
/// is not there.
std::vector<RunningProcess> running_processes(const std::filesystem::path& folder = running_folder());

/// Says that this process runs a model while it lives. Where the folder is not this user's own, it says nothing.
class Announcement {
 public:
  Announcement() = default;
  Announcement(const std::string& model, const std::filesystem::path& directory, std::uint64_t weights,
               std::uint64_t anonymous, const std::filesystem::path& folder = running_folder());
  ~Announcement();
  Announcement(Announcement&& other) noexcept;
  Announcement& operator=(Announcement&& other) noexcept;

 private:
  std::filesystem::path path_;
  TemporaryName listed_;  // a signal that ends the process takes the file away too
  int descriptor_ = -1;   // holds the lock
};

/// One line about the large ones among `others` for a user who starts `plan` with the weights of `directory`; empty
/// when one of both is small against the `total` memory of the machine.
std::string describe_others(const std::vector<RunningProcess>& others, const MemoryPlan& plan,
                            const std::filesystem::path& directory, std::uint64_t total);

}  // namespace tqkv

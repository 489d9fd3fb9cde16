// A hub on loopback that does what a scenario says: hub_server.py in a process of its own.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hub/settings.h"
#include "support/temporary_directory.h"

namespace tqkv::test {

class TestHub {
 public:
  /// Throws std::runtime_error when it does not start.
  explicit TestHub(const nlohmann::json& scenario);
  ~TestHub();
  TestHub(const TestHub&) = delete;
  TestHub& operator=(const TestHub&) = delete;

  std::string endpoint() const;  ///< "http://127.0.0.1:…", or https
  int port() const { return port_; }
  /// Waits until a rule holds a transfer.
  void wait_until_held();
  /// Lets every held transfer go on, now and from now on.
  void release();
  /// The requests so far, or those of one kind ("list", "head", "resolve", "data").
  std::vector<nlohmann::json> requests(const std::string& kind = "") const;

 private:
  std::string line();
  TemporaryDirectory folder_;
  pid_t child_ = -1;
  int to_ = -1, from_ = -1;
  int port_ = 0;
  bool tls_ = false;
};

inline constexpr const char* main_commit = "0123456789abcdef0123456789abcdef01234567";

/// The files of a repository "org/name", and a scenario that serves them.
class TestRepository {
 public:
  /// Small files as they are in every checkpoint, and two shards of random bytes that are "large".
  explicit TestRepository(std::size_t shard_bytes = 300000);
  std::filesystem::path folder() const { return folder_.path(); }
  std::string text(const std::string& file) const;
  /// `rules` as hub_server.py reads them.
  nlohmann::json scenario(const nlohmann::json& rules = nlohmann::json::array()) const;
  static constexpr const char* first_shard = "model-00001-of-00002.safetensors";
  static constexpr const char* second_shard = "model-00002-of-00002.safetensors";

 private:
  TemporaryDirectory folder_;
};

/// Settings that reach `hub`, keep to `cache` and do not wait before another try.
hub::Settings settings_for(const TestHub& hub, const std::filesystem::path& cache);

std::string file_text(const std::filesystem::path& path);
std::string sha256_hex(const std::string& text);

}  // namespace tqkv::test

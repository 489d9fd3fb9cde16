#include "runtime/mlx/kept_results.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "runtime/mlx/device.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::mlx {
namespace {

namespace fs = std::filesystem;

constexpr int test_version = 3;  // of what is tested
constexpr std::size_t most_bytes = 1'000'000;

fs::path result_file() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  fs::path folder = cache && *cache ? fs::path(cache) : home && *home ? fs::path(home) / ".cache" : fs::path();
  return folder.empty() ? folder : folder / "tqkv" / "mlx-self-test";
}

/// What every result is of.
std::string identity() {
  utsname system{};
  ::uname(&system);
  return fmt::format("tqkv {}, test {}, MLX {}, {}, {} {}\n", version, test_version, mx::version(), gpu_name(),
                     system.release, system.version);
}

/// The lines behind the identity; nothing where the file is of another one.
std::string results() {
  const fs::path file = result_file();
  std::error_code absent;
  if (file.empty() || !fs::is_regular_file(file, absent)) return {};
  try {
    const std::string text = read_text(file, most_bytes), own = identity();
    return text.compare(0, own.size(), own) == 0 ? text.substr(own.size()) : "";
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

bool has_result(const std::string& result) {
  return ("\n" + results()).find("\n" + result + "\n") != std::string::npos;
}

void keep_result(const std::string& result) {
  if (result_file().empty() || has_result(result)) return;
  try {
    AtomicFile file(result_file());
    file.write(identity() + results() + result + "\n");
    file.commit();
  } catch (const Error&) {  // a full disk, for one
  }
}

}  // namespace tqkv::mlx

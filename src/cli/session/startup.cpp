#include "cli/session/startup.h"

#include <chrono>

namespace tqkv::cli {
namespace {

const std::chrono::steady_clock::time_point program_start = std::chrono::steady_clock::now();

}  // namespace

double seconds_since_start() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - program_start).count();
}

}  // namespace tqkv::cli

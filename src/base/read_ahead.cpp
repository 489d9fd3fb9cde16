#include "base/read_ahead.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <system_error>

#include "base/memory_info.h"

namespace tqkv {
namespace {

constexpr std::size_t piece = std::size_t{8} << 20;

// Whole pages around `range`. Asks for the pages with their mapping (Linux 5.14), else for the pages alone; false where
// the system takes neither.
bool bring(std::span<const std::byte> range) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(range.data());
  const std::uintptr_t first = start / page * page, last = start + range.size();
  void* at = const_cast<std::byte*>(range.data() - (start - first));
#if defined(MADV_POPULATE_READ)
  if (::madvise(at, last - first, MADV_POPULATE_READ) == 0) return true;
#endif
  return ::madvise(at, last - first, MADV_WILLNEED) == 0;
}

}  // namespace

ReadAhead::ReadAhead(std::vector<std::span<const std::byte>> ranges) : ranges_(std::move(ranges)) {
  std::uint64_t bytes = 0;
  for (const auto& range : ranges_) bytes += range.size();
  if (bytes == 0 || bytes > available_memory()) return;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {  // no thread to spare
  }
}

ReadAhead::~ReadAhead() {
  stop_.store(true, std::memory_order_relaxed);
  wait();
}

void ReadAhead::wait() {
  if (thread_.joinable()) thread_.join();
}

void ReadAhead::run() const {
  for (const auto& range : ranges_)
    for (std::size_t at = 0; at < range.size(); at += piece) {
      if (stop_.load(std::memory_order_relaxed)) return;
      if (!bring(range.subspan(at, std::min(piece, range.size() - at)))) return;
    }
}

}  // namespace tqkv

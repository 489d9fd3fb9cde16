#include "base/temporaries.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace tqkv {
namespace {

// A name belongs to whoever exchanges it for null: the handler, which removes the file, or its TemporaryName.
std::array<std::atomic<char*>, 256> names;
static_assert(std::atomic<char*>::is_always_lock_free);

}  // namespace

TemporaryName::TemporaryName(const std::filesystem::path& path) : name_(::strdup(path.c_str())) {
  if (name_ == nullptr) return;
  for (std::atomic<char*>& slot : names) {
    char* empty = nullptr;
    if (!slot.compare_exchange_strong(empty, name_)) continue;
    slot_ = &slot;
    return;
  }
  std::free(std::exchange(name_, nullptr));
}

TemporaryName::TemporaryName(TemporaryName&& other) noexcept
    : slot_(std::exchange(other.slot_, nullptr)), name_(std::exchange(other.name_, nullptr)) {}

TemporaryName& TemporaryName::operator=(TemporaryName&& other) noexcept {
  std::swap(slot_, other.slot_);
  std::swap(name_, other.name_);
  return *this;
}

void TemporaryName::clear() noexcept {
  if (slot_ == nullptr) return;
  char* own = name_;
  if (slot_->compare_exchange_strong(own, nullptr)) std::free(name_);
  slot_ = nullptr;
  name_ = nullptr;
}

void remove_temporaries() noexcept {
  for (std::atomic<char*>& slot : names)
    if (const char* name = slot.exchange(nullptr)) ::unlink(name);
}

}  // namespace tqkv

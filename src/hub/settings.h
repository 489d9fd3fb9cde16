// Settings of the hub, and how what uses them is stopped.
#pragma once
#include <atomic>

#include "tqkv/hub.h"

namespace tqkv::hub {

/// Why a transfer may have to end early: the user asked, or another part of the same pull failed.
class Stop {
 public:
  explicit Stop(const std::atomic<bool>* asked = nullptr) : asked_(asked) {}
  bool operator()() const { return failed_.load() || (asked_ != nullptr && asked_->load()); }
  bool asked() const { return asked_ != nullptr && asked_->load(); }
  void fail() { failed_.store(true); }

 private:
  const std::atomic<bool>* asked_;
  std::atomic<bool> failed_{false};
};

/// Thrown where a Stop was seen; never leaves the public functions of this room.
struct Stopped {};

}  // namespace tqkv::hub

// DeviceState: what one session keeps on a device, behind the few things that a timeline asks of it. The timeline has
// the position and the ids; docs/architecture.md says where a device begins.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "tqkv/engine.h"

namespace tqkv {

namespace cache {
struct SessionTensor;
}

/// What going back to a position needs: tokens before it are still in the state.
class DeviceSnapshot {
 public:
  virtual ~DeviceSnapshot() = default;
  virtual std::uint64_t bytes() const = 0;
};

class DeviceState {
 public:
  virtual ~DeviceState() = default;
  virtual const KvFormat& format() const = 0;  ///< effective: plain sides are f32 under f32 precision
  virtual StateType type() const = 0;
  /// Makes room for the tokens below `tokens`.
  virtual void reserve(int tokens) = 0;
  /// Bytes of keys and values that a state with so many tokens holds.
  virtual std::uint64_t kv_bytes(int tokens) const = 0;
  virtual std::unique_ptr<DeviceSnapshot> snapshot() const = 0;
  /// A snapshot of this state, taken at `position`, which is not behind it.
  virtual void restore(const DeviceSnapshot& snapshot, int position) = 0;
  /// A state of its own as this one was at such a snapshot. What nobody writes to any more can be shared.
  virtual std::unique_ptr<DeviceState> fork(const DeviceSnapshot& snapshot, int position) const = 0;
  virtual CacheReport report(int tokens) const = 0;

  /// One tensor of the canonical form (docs/formats.md): its bytes in order, in pieces.
  virtual void save(const cache::SessionTensor& tensor,
                    const std::function<void(std::span<const std::byte>)>& sink) const = 0;
  /// The bytes of one tensor, of a paged one those of tokens first..first+count-1, of a session with `tokens` tokens.
  /// Calls for different tensors may run at the same time.
  virtual void load(const cache::SessionTensor& tensor, int tokens, int first, int count,
                    std::span<const std::byte> bytes) = 0;
};

/// Rows in a pass that one session adds, and that are computed as if they were added alone. A session can have several,
/// one behind the other.
struct Piece {
  DeviceState* state = nullptr;
  std::span<const int> ids = {};
  int position = 0;  ///< of the first id
  int context = 0;   ///< most tokens of the session
  int chunk = 0;     ///< most ids that it has in a pass
  Observer* observer = nullptr;
  float* last_logits = nullptr;                     ///< [vocab] of the last id, where wanted
  std::unique_ptr<DeviceSnapshot>* keep = nullptr;  ///< where a snapshot belongs that is taken behind the last id
  /// Called with the logits of ids[row] for every row from first_row on, where wanted.
  const std::function<void(int row, std::span<const float>)>* rows = nullptr;
  int first_row = 0;
};

}  // namespace tqkv

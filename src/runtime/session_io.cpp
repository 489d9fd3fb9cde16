// A timeline on disk: what it has itself, and its state in canonical form.
#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "cache/session/saved_session.h"
#include "cache/session/writer.h"
#include "runtime/devices.h"
#include "runtime/timeline.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using cache::SessionPart;
using cache::SessionTensor;

template <class Value>
std::vector<Value> values_in(std::span<const std::byte> bytes) {
  std::vector<Value> values(bytes.size() / sizeof(Value));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

void Timeline::save(const std::filesystem::path& path, const SavedText& text) const {
  const KvFormat& format = state_->format();
  const auto layout = cache::session_layout(engine_.config(), {format, engine_.precision(), state_->type(), position_,
                                                               static_cast<int>(text.pending.size()), has_logits_});
  const SessionIdentity identity{engine_.fingerprint(), format, engine_.precision(), state_->type(),
                                 bits_of(engine_.device().device)};
  cache::SessionWriter writer(path, cache::metadata_of(identity, text.next), layout);
  for (const SessionTensor& tensor : layout) {
    if (tensor.part == SessionPart::checksums) continue;
    if (tensor.part == SessionPart::tokens)
      writer.write(std::as_bytes(ids()));
    else if (tensor.part == SessionPart::pending)
      writer.write(std::as_bytes(std::span(text.pending)));
    else if (tensor.part == SessionPart::logits)
      writer.write(std::as_bytes(logits()));
    else
      state_->save(tensor, [&](std::span<const std::byte> bytes) { writer.write(bytes); });
  }
  writer.commit();
}

// Tensors of different layers, sides and parts touch nothing that they share.
void Timeline::load(const SavedSession& saved) {
  const cache::SessionReader& reader = saved.impl().reader;
  const ModelConfig& config = engine_.config();
  const auto layout = reader.layout(config, engine_.fingerprint());
  position_ = reader.tokens();
  const auto load_one = [&](std::size_t index) {
    const SessionTensor& tensor = layout[index];
    if (tensor.paged()) {
      const std::size_t of_token = tensor.bytes / static_cast<std::size_t>(std::max(tensor.tokens, 1));
      reader.read(config, layout, index, [&](int first, int count, const std::byte* bytes) {
        state_->load(tensor, position_, first, count, {bytes, of_token * static_cast<std::size_t>(count)});
      });
      return;
    }
    const std::span<const std::byte> bytes = reader.read(config, layout, index);
    if (tensor.part == SessionPart::checksums || tensor.part == SessionPart::pending) return;
    if (tensor.part == SessionPart::tokens) {
      ids_ = values_in<int>(bytes);
    } else if (tensor.part == SessionPart::logits) {
      has_logits_ = !bytes.empty();
      if (has_logits_) logits_ = values_in<float>(bytes);
    } else {
      state_->load(tensor, position_, 0, 0, bytes);
    }
  };
  // Checking and copying are bound by memory: a tensor a task. Tasks must not throw.
  std::vector<std::optional<Error>> errors(layout.size());
  std::vector<char> no_memory(layout.size());
  engine_.run_tasks(static_cast<int>(layout.size()), [&](int task) {
    const auto index = static_cast<std::size_t>(task);
    try {
      load_one(index);
    } catch (const Error& error) {
      errors[index] = error;
    } catch (const std::bad_alloc&) {
      no_memory[index] = 1;
    }
  });
  for (std::size_t i = 0; i < layout.size(); ++i) {
    if (errors[i]) throw *errors[i];
    if (no_memory[i]) throw std::bad_alloc();
  }
}

}  // namespace tqkv

// CpuSession on disk: its pages in canonical order, its state as it is.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "cache/session/saved_session.h"
#include "cache/session/writer.h"
#include "runtime/cpu/canonical.h"
#include "runtime/cpu/session.h"
#include "tqkv/error.h"

namespace tqkv::cpu {
namespace {

using cache::SessionPart;
using cache::SessionTensor;

template <class Value>
std::vector<Value> values_in(std::span<const std::byte> bytes) {
  std::vector<Value> values(bytes.size() / sizeof(Value));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// Of those that attention layers, or linear ones, have in order: the one of layer `layer` of the model.
template <class Values>
auto& of_layer(Values& values, const ModelConfig& config, int layer) {
  const LayerKind kind = config.layers[static_cast<std::size_t>(layer)];
  const auto first = config.layers.begin();
  return values[static_cast<std::size_t>(std::count(first, first + layer, kind))];
}

template <class Layer>
auto& side_of(Layer& layer, const SessionTensor& tensor) {
  return tensor.keys ? layer.keys : layer.values;
}

template <class Side>
auto& pages_of(Side& side, SessionPart part) {
  if (part == SessionPart::first) return *side.first;
  if (part == SessionPart::sink) return *side.sink;
  if (part == SessionPart::window) return *side.window;
  return side.main;
}

}  // namespace

void CpuSession::save_tensor(const SessionTensor& tensor, const SavedText& text, cache::SessionWriter& writer) const {
  const ModelConfig& config = engine_.config();
  switch (tensor.part) {
    case SessionPart::checksums:
      return;
    case SessionPart::tokens:
      return writer.write(std::as_bytes(ids()));
    case SessionPart::pending:
      return writer.write(std::as_bytes(std::span(text.pending)));
    case SessionPart::logits:
      return writer.write(std::as_bytes(logits()));
    case SessionPart::squares:
      for (const auto& head : side_of(of_layer(state_.caches, config, tensor.layer), tensor).squares)
        writer.write(std::as_bytes(std::span(head)));
      return;
    case SessionPart::mean:
      return writer.write(
          std::as_bytes(std::span(side_of(of_layer(state_.caches, config, tensor.layer), tensor).key_sum)));
    case SessionPart::recurrent:
      return writer.write(of_layer(state_.states, config, tensor.layer).recurrent.raw());
    case SessionPart::convolution:
      return writer.write(of_layer(state_.states, config, tensor.layer).convolution.raw());
    case SessionPart::main:
    case SessionPart::first:
    case SessionPart::sink:
    case SessionPart::window:
      break;
  }
  const SidePages& pages = pages_of(side_of(of_layer(state_.caches, config, tensor.layer), tensor), tensor.part);
  std::vector<std::byte> page(cache::page_tokens * pages.bytes_per_token());
  const int end = tensor.first_token + tensor.tokens;
  for (int token = tensor.first_token; token < end; token += cache::page_tokens) {
    const int count = std::min(cache::page_tokens, end - token);
    to_canonical(pages, token, count, page.data());
    writer.write(std::span(page).first(static_cast<std::size_t>(count) * pages.bytes_per_token()));
  }
}

void CpuSession::save(const std::filesystem::path& path, const SavedText& text) const {
  const auto layout =
      cache::session_layout(engine_.config(), {state_.format, engine_.precision(), state_.type, position_,
                                               static_cast<int>(text.pending.size()), !logits_.empty()});
  const SessionIdentity identity{engine_.fingerprint(), state_.format, engine_.precision(), state_.type,
                                 std::string(engine_.kernels().isa)};
  cache::SessionWriter writer(path, cache::metadata_of(identity, text.next), layout);
  for (const SessionTensor& tensor : layout) save_tensor(tensor, text, writer);
  writer.commit();
}

// Tensors of different layers, sides and parts touch nothing that they share.
void CpuSession::load_tensor(const SessionTensor& tensor, std::span<const std::byte> bytes) {
  const ModelConfig& config = engine_.config();
  const auto copy_to = [&](std::span<std::byte> to) { std::memcpy(to.data(), bytes.data(), to.size()); };
  switch (tensor.part) {
    case SessionPart::checksums:
    case SessionPart::pending:
      return;
    case SessionPart::tokens:
      ids_ = values_in<int>(bytes);
      return;
    case SessionPart::logits:
      logits_ = values_in<float>(bytes);
      return;
    case SessionPart::squares: {
      CacheSide& side = side_of(of_layer(state_.caches, config, tensor.layer), tensor);
      auto squares = values_in<double>(bytes);
      for (double& square : squares) square = square >= 0 ? square : 0;  // a mapped file may change after its check
      for (std::size_t head = 0; head < side.squares.size(); ++head) {
        auto& own = side.squares[head];
        std::copy_n(squares.begin() + static_cast<std::ptrdiff_t>(head * own.size()), own.size(), own.begin());
        if (position_ >= cache::page_tokens)
          side.main_basis.push_back(codec::Basis::split(codec::strongest_channels(own), state_.format.seed,
                                                        tensor.layer, static_cast<int>(head), config.head_dim));
      }
      return;
    }
    case SessionPart::mean:
      return copy_to(
          std::as_writable_bytes(std::span(side_of(of_layer(state_.caches, config, tensor.layer), tensor).key_sum)));
    case SessionPart::recurrent:
      return copy_to(of_layer(state_.states, config, tensor.layer).recurrent.raw());
    case SessionPart::convolution:
      return copy_to(of_layer(state_.states, config, tensor.layer).convolution.raw());
    case SessionPart::main:
    case SessionPart::first:
    case SessionPart::sink:
    case SessionPart::window:
      return;
  }
}

void CpuSession::load_pages(const SessionTensor& tensor, const cache::SessionReader& reader,
                            std::span<const SessionTensor> layout) {
  SidePages& pages = pages_of(side_of(of_layer(state_.caches, engine_.config(), tensor.layer), tensor), tensor.part);
  pages.start_at(tensor.first_token);
  reader.read(engine_.config(), layout, static_cast<std::size_t>(&tensor - layout.data()),
              [&](int first, int count, const std::byte* bytes) {
                pages.reserve(first + count);
                from_canonical(pages, first, count, bytes);
              });
}

void CpuSession::load(const SavedSession& saved) {
  const cache::SessionReader& reader = saved.impl().reader;
  const ModelConfig& config = engine_.config();
  const auto layout = reader.layout(config, engine_.fingerprint());
  position_ = reader.tokens();
  // Checking and copying are bound by memory: a tensor a task. Tasks must not throw.
  std::vector<std::optional<Error>> errors(layout.size());
  std::vector<char> no_memory(layout.size());
  engine_.pool().run(static_cast<int>(layout.size()), [&](int task, int) {
    const auto index = static_cast<std::size_t>(task);
    try {
      if (layout[index].paged())
        load_pages(layout[index], reader, layout);
      else
        load_tensor(layout[index], reader.read(config, layout, index));
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

}  // namespace tqkv::cpu

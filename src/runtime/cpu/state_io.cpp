// CpuState in canonical form: its pages token by token, the rest as it is.
#include <algorithm>
#include <cstring>

#include "cache/session/layout.h"
#include "runtime/cpu/canonical.h"
#include "runtime/cpu/state.h"

namespace tqkv::cpu {
namespace {

using cache::SessionPart;
using cache::SessionTensor;

/// Of those that attention layers, or linear ones, have in order: the one of layer `layer` of the model.
template <class Values>
auto& of_layer(Values& values, const ModelConfig& config, int layer) {
  const LayerKind kind = config.layers[static_cast<std::size_t>(layer)];
  const auto first = config.layers.begin();
  return values[static_cast<std::size_t>(std::count(first, first + layer, kind))];
}

template <class State>
auto& side_of(State& state, const SessionTensor& tensor) {
  auto& cache = of_layer(state.caches, state.config, tensor.layer);
  return tensor.keys ? cache.keys : cache.values;
}

template <class Side>
auto& pages_of(Side& side, SessionPart part) {
  if (part == SessionPart::first) return *side.first;
  if (part == SessionPart::sink) return *side.sink;
  if (part == SessionPart::window) return *side.window;
  return side.main;
}

}  // namespace

void CpuState::save(const SessionTensor& tensor, const std::function<void(std::span<const std::byte>)>& sink) const {
  if (tensor.part == SessionPart::recurrent) return sink(of_layer(states, config, tensor.layer).recurrent.raw());
  if (tensor.part == SessionPart::convolution) return sink(of_layer(states, config, tensor.layer).convolution.raw());
  const CacheSide& side = side_of(*this, tensor);
  if (tensor.part == SessionPart::mean) return sink(std::as_bytes(std::span(side.key_sum)));
  if (tensor.part == SessionPart::squares) {
    for (const auto& head : side.squares) sink(std::as_bytes(std::span(head)));
    return;
  }
  const SidePages& pages = pages_of(side, tensor.part);
  std::vector<std::byte> page(cache::page_tokens * pages.bytes_per_token());
  const int end = tensor.first_token + tensor.tokens;
  for (int token = tensor.first_token; token < end; token += cache::page_tokens) {
    const int count = std::min(cache::page_tokens, end - token);
    to_canonical(pages, token, count, page.data());
    sink(std::span(page).first(static_cast<std::size_t>(count) * pages.bytes_per_token()));
  }
}

void CpuState::load(const SessionTensor& tensor, int tokens, int first, int count, std::span<const std::byte> bytes) {
  const auto copy_to = [&](std::span<std::byte> to) { std::memcpy(to.data(), bytes.data(), to.size()); };
  if (tensor.part == SessionPart::recurrent) return copy_to(of_layer(states, config, tensor.layer).recurrent.raw());
  if (tensor.part == SessionPart::convolution) return copy_to(of_layer(states, config, tensor.layer).convolution.raw());
  CacheSide& side = side_of(*this, tensor);
  if (tensor.part == SessionPart::mean) return copy_to(std::as_writable_bytes(std::span(side.key_sum)));
  if (tensor.part == SessionPart::squares) {
    for (std::size_t head = 0; head < side.squares.size(); ++head) {
      std::vector<double>& own = side.squares[head];
      std::memcpy(own.data(), bytes.data() + head * own.size() * sizeof(double), own.size() * sizeof(double));
      for (double& square : own) square = square >= 0 ? square : 0;  // a mapped file may change after its check
      if (tokens >= cache::page_tokens)
        side.main_basis.push_back(codec::Basis::split(codec::strongest_channels(own), stored.seed, tensor.layer,
                                                      static_cast<int>(head), config.head_dim));
    }
    return;
  }
  SidePages& pages = pages_of(side, tensor.part);
  if (first == tensor.first_token) pages.start_at(first);
  pages.reserve(first + count);
  from_canonical(pages, first, count, bytes.data());
}

}  // namespace tqkv::cpu

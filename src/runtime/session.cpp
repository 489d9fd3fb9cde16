#include "tqkv/session.h"

#include "tqkv/sampling.h"

namespace tqkv {

void Session::run(int first, Sampler& sampler, int count, const std::function<bool(int id)>& next) {
  for (int id = first; count > 0; --count) {
    const std::span<const float> logits = decode(id);
    id = sampler.next(logits, static_cast<std::uint64_t>(position()));
    if (!next(id)) return;
  }
}

}  // namespace tqkv

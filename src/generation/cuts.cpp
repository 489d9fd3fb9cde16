#include "tqkv/cuts.h"

#include <algorithm>

namespace tqkv {

std::vector<int> CutRule::ends(std::span<const int> before, std::span<const int> ids) const {
  std::size_t message = 0;  // where the one of the next id begins
  if (border) {
    const auto last = std::find(before.rbegin(), before.rend(), *border);
    if (last != before.rend()) message = static_cast<std::size_t>(before.rend() - last) - 1;
  }
  std::vector<int> ends;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::size_t position = before.size() + i;
    if (border && ids[i] == *border) message = position;
    if (i > 0 && (position - message) % static_cast<std::size_t>(piece) == 0) ends.push_back(static_cast<int>(i));
  }
  return ends;
}

}  // namespace tqkv

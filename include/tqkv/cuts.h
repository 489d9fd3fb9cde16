// CutRule: where prompts are cut into pieces, from their ids alone. Implemented in src/generation.
//
// The bits of a prompt follow from its pieces (session.h). So cuts follow from the text, never from what else runs or
// from what was computed before: then a prompt has the same bits alone, in company and after a beginning that is
// reused.
#pragma once
#include <optional>
#include <span>
#include <vector>

namespace tqkv {

struct CutRule {
  int piece = 256;            ///< most ids of a piece
  std::optional<int> border;  ///< the id that begins a message: a cut is in front of it, and pieces are counted from it

  /// Cuts of `ids` that stand after `before`: ids before each, ascending, from 1 to the number of ids - 1.
  std::vector<int> ends(std::span<const int> before, std::span<const int> ids) const;
};

}  // namespace tqkv

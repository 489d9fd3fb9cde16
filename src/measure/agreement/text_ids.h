// The ids of the beginning of a text.
#pragma once
#include <string_view>
#include <vector>

#include "tqkv/tokenizer.h"

namespace tqkv::measure {

/// The first `count` ids of `text`, or all there are. No more of a long text is tokenized than that takes.
std::vector<int> first_ids(const Tokenizer& tokenizer, std::string_view text, int count);

}  // namespace tqkv::measure

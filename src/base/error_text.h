// What an error says, without the word for its kind.
#pragma once
#include <algorithm>
#include <string_view>

#include "tqkv/error.h"

namespace tqkv {

/// what() behind "[kind] ".
inline std::string_view problem_of(const Error& error) {
  std::string_view message = error.what();
  message.remove_prefix(std::min(message.size(), name(error.kind()).size() + 3));
  return message;
}

}  // namespace tqkv

#pragma once
#include <string>
#include <string_view>

namespace tqkv::cli {

/// `text` with every `what` replaced by `by`, from left to right.
inline std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

}  // namespace tqkv::cli

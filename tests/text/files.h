// What the tests of this room read.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "support/places.h"
#include "tqkv/tokenizer.h"

namespace tqkv::test {

inline std::string source_text(const std::string& path) {
  return read_text(std::filesystem::path(test::source_dir()) / path);
}
inline nlohmann::ordered_json golden(const std::string& file) {
  return nlohmann::ordered_json::parse(source_text("tests/golden/" + file));
}
inline const std::string& pocket_json() {
  static const std::string text = source_text("models/pocket/tokenizer.json");
  return text;
}
inline const Tokenizer& pocket() {
  static const Tokenizer tokenizer = Tokenizer::parse(pocket_json(), source_text("models/pocket/tokenizer_config.json"),
                                                      "models/pocket/tokenizer.json");
  return tokenizer;
}

}  // namespace tqkv::test

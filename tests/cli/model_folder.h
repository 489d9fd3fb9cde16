// Model folders with something wrong: the pocket checkpoint, linked, with some files replaced or left out.
#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"

namespace tqkv::test {

inline const std::filesystem::path pocket_folder = std::filesystem::path(test::source_dir()) / "models/pocket";

inline std::string pocket_text(const std::string& file) {
  std::ifstream stream(pocket_folder / file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// `changes`: file -> its text, or nothing to leave it out. Returns the path of the new model folder.
inline std::string pocket_with(const TemporaryDirectory& folder,
                               const std::map<std::string, std::optional<std::string>>& changes) {
  const std::filesystem::path model = folder.path() / "model";
  std::filesystem::create_directories(model);
  for (const auto& entry : std::filesystem::directory_iterator(pocket_folder)) {
    const std::string name = entry.path().filename().string();
    if (!changes.contains(name)) std::filesystem::create_symlink(entry.path(), model / name);
  }
  for (const auto& [name, text] : changes)
    if (text) folder.write("model/" + name, *text);
  return model.string();
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

inline std::ptrdiff_t lines_in(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

}  // namespace tqkv::test

#include "loaders/config_file.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "tqkv/error.h"

namespace tqkv {

std::string config_text(const Checkpoint& checkpoint) {
  std::optional<std::string> text = checkpoint.text("config.json");
  if (!text) refuse_without_config(checkpoint.directory());
  return std::move(*text);
}

std::string config_place(const Checkpoint& checkpoint) {
  return (checkpoint.directory() / "config.json").string();
}

void refuse_without_config(const std::filesystem::path& directory) {
  throw Error(
      ErrorKind::checkpoint,
      fmt::format("{}: has no config.json: it is not a checkpoint, or the download is incomplete", directory.string()));
}

}  // namespace tqkv

// HubName: a repository of the Hugging Face hub and one of its revisions. Implemented in src/loaders.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tqkv {

/// "org/name" or "org/name@revision".
struct HubName {
  std::string id;                 ///< "org/name"
  std::string revision = "main";  ///< a branch, a tag, "refs/pr/1" or a commit

  std::string text() const;  ///< as it is written on a command line; "@main" is left out
};

/// "org/name[@revision]", or the address of a model's page as it is copied from a browser:
/// "https://huggingface.co/org/name", with or without scheme and "/tree/revision". Nothing when `text` cannot be the
/// name of a repository. What it returns is safe in paths below the cache.
std::optional<HubName> parse_hub_name(std::string_view text);

}  // namespace tqkv

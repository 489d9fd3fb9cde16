// The local cache of the Hugging Face hub, read-only.
#pragma once
#include <filesystem>
#include <string_view>

namespace tqkv {

/// Whether `text` can be the name of a hub repository: "org/name".
bool is_hub_name(std::string_view text);

/// The folder of the cache: $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or
/// ~/.cache/huggingface/hub, the first that is set. Empty when not even $HOME is.
std::filesystem::path hub_cache();

/// The snapshot of the main branch of `name` under `cache`. Throws Error(checkpoint) with the place searched and the
/// command that fetches the files.
std::filesystem::path find_in_hub_cache(std::string_view name, const std::filesystem::path& cache);

}  // namespace tqkv

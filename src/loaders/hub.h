// The local cache of the Hugging Face hub, read-only: names, places and what lies there. src/hub fills it.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "tqkv/hub_name.h"

namespace tqkv {

/// Whether `text` is a whole commit: 40 lower-case hexadecimal digits.
bool is_commit(std::string_view text);
/// The folder of a repository inside the cache: "models--org--name".
std::string hub_folder(const HubName& name);

/// The variable that forbids the network, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE; empty when none does.
std::string offline_variable();
/// Whether a variable is 1, on, yes or true.
bool is_on(const char* variable);

/// An environment variable; empty when it is not set.
std::string environment(const char* variable);
/// "~/x" as the shell and huggingface_hub read it.
std::filesystem::path expanded(const std::string& path);
/// Where huggingface_hub keeps its token and its cache: $HF_HOME, $XDG_CACHE_HOME/huggingface or ~/.cache/huggingface.
/// Empty when not even $HOME is set.
std::filesystem::path hub_home();
/// The folder of the cache: $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, or "hub" in hub_home(). Empty when that is.
std::filesystem::path hub_cache();

/// The snapshot of `name` under `cache`. Throws Error(checkpoint) with the place searched and the command that fetches
/// the files.
std::filesystem::path find_in_hub_cache(const HubName& name, const std::filesystem::path& cache);
/// What a whole checkpoint has and `snapshot` lacks, for a message; empty when nothing is missing. The files are not
/// read, but for the index that names the shards.
std::string missing_from(const std::filesystem::path& snapshot);

}  // namespace tqkv

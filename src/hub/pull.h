// What a pull takes besides its public face.
#pragma once
#include <string_view>

#include "loaders/published.h"
#include "tqkv/pull.h"

namespace tqkv::hub {

/// Whether a file at the top of a repository is one that a checkpoint needs: weights, their index, config, tokenizer
/// and chat template.
bool is_needed(std::string_view path);

/// plan_pull() from what is recorded, without a network.
PullPlan plan_pull(const Settings& settings, const PublishedCheckpoint& published);

}  // namespace tqkv::hub

// From MODEL to a folder with its files: those of the hub are fetched when the cache lacks them.
#pragma once
#include <filesystem>
#include <string>

#include "tqkv/pull.h"

namespace tqkv::cli {

/// What a command reads of a model.
enum class Needs { everything, no_weights };

/// locate_model(), but a name of the hub that the cache does not hold whole is pulled first. Throws Error, and ends the
/// program with interrupted_exit_code on Ctrl-C.
std::filesystem::path find_model(const std::string& model, Needs needs = Needs::everything);

/// Pulls what `name` is, shows how far it is and returns the snapshot. Throws as find_model().
std::filesystem::path fetch(const hub::Settings& settings, const HubName& name);

}  // namespace tqkv::cli

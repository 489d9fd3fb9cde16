// --session and --save-session: a saved session against the options of a run.
#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "cli/options/options.h"
#include "tqkv/continuation.h"
#include "tqkv/engine.h"
#include "tqkv/model.h"
#include "tqkv/saved_session.h"

namespace tqkv::cli {

inline constexpr const char* session_group = "Session";

/// Opens the file of --session, if one was named. Throws Error(io) and Error(session).
std::optional<SavedSession> open_saved(const std::string& path);

/// The format of a saved session, whose precision and state become those of `model`. Throws Error(session) when an
/// option of `command` asks for another format, precision or state.
KvFormat adopt(const SavedSession& saved, const CLI::App& command, const CacheOptions& cache, ModelOptions& model);

/// Where the text of the options comes: after that of `saved`, if there is one.
Continuation continuation_of(const std::optional<SavedSession>& saved, const Model& model);

/// Says what was restored, and when the instruction set is not that of the session.
void tell_restored(const SavedSession& saved, const Engine& engine, double seconds);

/// Throws Error(io) when no session of `tokens` tokens can be saved there, for want of permission or of room on the
/// disk: before a long run, not after it.
void require_savable(const std::filesystem::path& path, const ModelConfig& config, const ModelOptions& model,
                     const KvFormat& format, int tokens);

/// Saves and says so.
void save(const Session& session, const std::string& path, const SavedText& text);

}  // namespace tqkv::cli

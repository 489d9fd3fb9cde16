// --session and --save-session: a saved session against the options of a run.
#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "options.h"
#include "tqkv/chat.h"
#include "tqkv/engine.h"
#include "tqkv/saved_session.h"
#include "tqkv/tokenizer.h"

namespace tqkv::cli {

inline constexpr const char* session_group = "Session";

/// Opens the file of --session, if one was named. Throws Error(io) and Error(session).
std::optional<SavedSession> open_saved(const std::string& path);

/// The format of a saved session, whose precision and state become those of `model`. Throws Error(session) when an
/// option of `command` asks for another format, precision or state.
KvFormat adopt(const SavedSession& saved, const CLI::App& command, const CacheOptions& cache, ModelOptions& model);

/// How a text begins: a conversation of its own, or behind a saved session.
struct Beginning {
  NextText next = NextText::conversation;
  std::optional<ChatTemplate> chat;  // nothing: raw
  bool answer_ended = false;         // the session's last turn is closed
};
/// `markup`: what the options ask for, or empty. Throws Error(chat) as choose_chat does.
Beginning beginning_of(const std::optional<SavedSession>& saved, const std::string& markup,
                       const Checkpoint& checkpoint, const Tokenizer& tokenizer);

/// What has to be fed: ids that the session was saved with but had not been fed, then `ids`.
std::vector<int> ids_behind(const std::optional<SavedSession>& saved, std::vector<int> ids);

/// Says what was restored, and when the instruction set is not that of the session.
void tell_restored(const SavedSession& saved, const Engine& engine, double seconds);

/// Throws Error(io) when no session of `tokens` tokens can be saved there, for want of permission or of room on the
/// disk: before a long run, not after it.
void require_savable(const std::filesystem::path& path, const ModelConfig& config, const ModelOptions& model,
                     const KvFormat& format, int tokens);

/// Saves and says so.
void save(const Session& session, const std::string& path, const SavedText& text);

}  // namespace tqkv::cli

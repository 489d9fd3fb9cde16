#include "cli/session/saved.h"

#include <fmt/format.h>

#include <system_error>

#include "base/file.h"
#include "base/numbers.h"
#include "cache/accounting.h"
#include "cache/session/layout.h"
#include "cli/terminal/output.h"
#include "runtime/devices.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

[[noreturn]] void refuse(const SavedSession& saved, std::string_view what, std::string_view held,
                         std::string_view asked) {
  throw Error(ErrorKind::session,
              fmt::format("{}: was computed with {} {}, but the options ask for {}: leave them out, or compute the "
                          "session again",
                          saved.path().string(), what, held, asked));
}

}  // namespace

std::optional<SavedSession> open_saved(const std::string& path) {
  if (path.empty()) return std::nullopt;
  return SavedSession::open(path);
}

KvFormat adopt(const SavedSession& saved, const CLI::App& command, const CacheOptions& cache, ModelOptions& model) {
  const SessionIdentity& own = saved.identity();
  const auto take = [&](const char* option, std::string& value, std::string_view held, std::string_view what) {
    if (command.count(option) > 0 && value != held) refuse(saved, what, held, value);
    value = held;
  };
  take("--precision", model.precision, name(own.precision), "precision");
  take("--state", model.state, name(own.state), "a state of");
  if (command.count("--backend") > 0 || !cache.keys.empty()) {
    const KvFormat given = cache.format();
    const KvFormat asked = cache::as_stored(given, own.precision);
    if (asked != own.format) refuse(saved, "the cache format", own.format.canonical(), asked.canonical());
  }
  return own.format;
}

Continuation continuation_of(const std::optional<SavedSession>& saved, const Model& model) {
  return saved ? Continuation(*saved, model.tokenizer()) : Continuation();
}

void tell_restored(const SavedSession& saved, const Engine& engine, double seconds) {
  const std::string held = saved.identity().device.canonical(), here = bits_of(engine.device().device).canonical();
  note(fmt::format("{}: {} tokens restored in {:.3f} s", saved.path().string(),
                   grouped(static_cast<std::uint64_t>(saved.tokens())), seconds));
  if (held != here)
    note(fmt::format("they were computed on {} and continue on {}: what follows may differ in rounding", held, here));
}

void require_savable(const std::filesystem::path& path, const ModelConfig& config, const ModelOptions& model,
                     const KvFormat& format, int tokens) {
  const AtomicFile probe(path);
  cache::SessionSize size;
  size.precision = model.device().precision;
  size.format = cache::as_stored(format, size.precision);
  size.state = model.session().state;
  size.tokens = tokens;
  size.pending = 1;
  size.logits = true;
  require_room(path, cache::session_bytes(cache::session_layout(config, size)),
               fmt::format("a session of up to {} tokens", grouped(static_cast<std::uint64_t>(tokens))),
               "make room, name a file on another disk, or ask for fewer tokens");
}

void save(const Session& session, const std::string& path, const SavedText& text) {
  session.save(path, text);
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  note(fmt::format("{}: {} tokens saved, {:.2f} MB", path, grouped(static_cast<std::uint64_t>(session.position())),
                   error ? 0.0 : static_cast<double>(bytes) / 1e6));
}

}  // namespace tqkv::cli

// SavedSession: a session on disk, and the identity that decides who may resume it. Implemented in src/cache;
// docs/formats.md describes the file to the byte. Session::save writes one, Engine::restore resumes it.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/cache_report.h"
#include "tqkv/checkpoint.h"
#include "tqkv/device.h"
#include "tqkv/kv_format.h"

namespace tqkv {

/// How the text of a session continues, for whoever finds it on disk.
enum class NextText {
  raw,          ///< right after the last token
  question,     ///< inside the turn of a user, after a blank line: what is asked about the text before it comes next
  conversation  ///< after the turn of an assistant, or what there is of it
};
std::string_view name(NextText next);

/// What is saved with a session.
struct SavedText {
  NextText next = NextText::raw;
  std::vector<int> pending = {};  ///< ids that belong to the text but were not fed: the last one that was sampled
};

/// Version of the file that this library writes, and the newest that it reads.
inline constexpr int session_file_version = 2;

/// What the bytes of a saved session were computed with.
struct SessionIdentity {
  std::string model;  ///< model_fingerprint()
  KvFormat format;    ///< effective: plain sides are f32 under f32 precision
  Precision precision = Precision::fast;
  StateType state = StateType::f32;
  Device device;  ///< with the keys that decide bits: on another one what follows may differ in rounding
  bool operator==(const SessionIdentity&) const = default;
};

/// 32 hexadecimal digits: a hash of what config.json says, of every tensor's name, type and shape, and of bytes sampled
/// from it (all of the small ones). Tells models, conversions and fine-tunings apart; not a change of a few weights
/// between the samples.
std::string model_fingerprint(const Checkpoint& checkpoint);

/// A file that is mapped while this lives; move-only. Nothing in it is trusted.
class SavedSession {
 public:
  /// Checks the header. Throws Error(io), and Error(session) for a file that is no saved session, was cut short or
  /// altered, or that a newer version wrote.
  static SavedSession open(const std::filesystem::path& path);
  SavedSession(SavedSession&&) noexcept;
  SavedSession& operator=(SavedSession&&) noexcept;
  ~SavedSession();

  const std::filesystem::path& path() const;
  const SessionIdentity& identity() const;
  int tokens() const;  ///< of the session
  const SavedText& text() const;
  int last_id() const;  ///< of tokens and pending ids; -1 where there are none. Only restoring checks ids.

  struct Impl;  ///< of src/cache
  const Impl& impl() const { return *impl_; }

 private:
  explicit SavedSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tqkv

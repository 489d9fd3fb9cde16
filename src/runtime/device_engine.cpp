#include "runtime/device_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error_text.h"
#include "cache/session/fingerprint.h"
#include "loaders/config_file.h"
#include "runtime/timeline.h"
#include "tqkv/error.h"
#include "tqkv/sampling.h"
#include "tqkv/saved_session.h"

namespace tqkv {

DeviceEngine::DeviceEngine(Checkpoint checkpoint, Precision precision, MemoryGuard guard)
    : checkpoint_(std::move(checkpoint)),
      config_json_(config_text(checkpoint_)),
      config_(ModelConfig::parse(config_json_, config_place(checkpoint_))),
      precision_(precision),
      guard_(std::move(guard)) {}

std::unique_ptr<Session> DeviceEngine::open(const KvFormat& format, const SessionOptions& options) const {
  return std::make_unique<Timeline>(*this, format, options);
}

std::unique_ptr<Session> DeviceEngine::restore(const SavedSession& saved, const SessionOptions& options) const {
  const SessionIdentity& identity = saved.identity();
  const std::string where = saved.path().string();
  if (identity.precision != precision_)
    throw Error(ErrorKind::session,
                fmt::format("{}: was computed with {} precision, and this engine has {}: give "
                            "--precision {} on a device that has it",
                            where, name(identity.precision), name(precision_), name(identity.precision)));
  if (identity.model != fingerprint())
    throw Error(ErrorKind::session,
                fmt::format("{}: is a session of another model: its fingerprint is {}, that of {} "
                            "is {}",
                            where, identity.model, checkpoint_.directory().string(), fingerprint()));
  SessionOptions own = options;
  own.state = identity.state;
  if (own.context > 0 && saved.tokens() > own.context)
    throw Error(ErrorKind::input, fmt::format("{}: contains {} tokens, but the context is {}: give a larger one", where,
                                              saved.tokens(), own.context));
  std::unique_ptr<Timeline> session;
  try {
    session = std::make_unique<Timeline>(*this, identity.format, own);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::format) throw;
    throw Error(ErrorKind::session, fmt::format("{}: {}", where, problem_of(error)));
  }
  session->load(saved);
  return session;
}

std::unique_ptr<Session> DeviceEngine::fork(const Session& session, const Snapshot& snapshot,
                                            const SessionOptions& options) const {
  const auto* timeline = dynamic_cast<const Timeline*>(&session);
  if (!timeline || &timeline->engine() != this)
    throw Error(ErrorKind::internal, "fork: the session is not of this engine");
  return timeline->fork(snapshot, options);
}

// Each session's part of the pass is checked by itself; those that are refused have no rows in it.
void DeviceEngine::step(std::span<Work> all) const {
  std::vector<Piece> pieces;
  std::vector<Timeline::Part> parts;
  std::vector<Work*> works;  // of the parts
  std::vector<Timeline*> sessions;
  std::uint64_t promised = 0;
  for (Work& work : all) {
    work.error.reset();
    work.logits = {};
    work.id = -1;
    try {
      auto* session = dynamic_cast<Timeline*>(work.session);
      if (!session || &session->engine() != this)
        throw Error(ErrorKind::internal, "step: the session is not of this engine");
      if (std::find(sessions.begin(), sessions.end(), session) != sessions.end())
        throw Error(ErrorKind::internal, "step: the session is there twice");
      if (work.want == Want::id && !work.sampler)
        throw Error(ErrorKind::internal, "step: an id is wanted, and no sampler was given");
      session->check(work.ids, "step");
      if (work.ids.size() > static_cast<std::size_t>(session->chunk()))
        throw Error(ErrorKind::input,
                    fmt::format("step: {} tokens are more than a pass takes: {}", work.ids.size(), session->chunk()));
      check_cuts(work.pieces, work.ids.size(), "step");
      const int count = static_cast<int>(work.ids.size());
      if (work.pieces.next_pass(count, 0, session->chunk()) < count)
        throw Error(ErrorKind::internal, "step: the pieces do not go into one pass");
      Timeline::Part part = session->part(work.ids, work.pieces, 0);
      pieces.insert(pieces.end(), part.pieces.begin(), part.pieces.end());
      try {
        promised += session->require_room(pieces, part.pieces.size(), promised);
      } catch (...) {
        pieces.resize(pieces.size() - part.pieces.size());
        throw;
      }
      parts.push_back(std::move(part));
      works.push_back(&work);
      sessions.push_back(session);
    } catch (const Error& error) {
      work.error = error;
    }
  }
  if (pieces.empty()) return;
  std::size_t last = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    last += parts[i].pieces.size();
    pieces[last - 1].last_logits = sessions[i]->begin(works[i]->want != Want::nothing);
  }
  pass(pieces, nullptr);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Work& work = *works[i];
    sessions[i]->added(parts[i], work.pieces);
    if (work.want == Want::logits) work.logits = sessions[i]->logits();
    if (work.want != Want::id) continue;
    try {
      work.id = work.sampler->next(sessions[i]->logits(), static_cast<std::uint64_t>(sessions[i]->position()));
    } catch (const Error& error) {  // the session has its tokens
      work.error = error;
    }
  }
}

const std::string& DeviceEngine::fingerprint() const {
  std::call_once(fingerprinted_, [this] { fingerprint_ = cache::model_fingerprint(checkpoint_, config_json_); });
  return fingerprint_;
}

}  // namespace tqkv

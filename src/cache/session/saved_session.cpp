#include "cache/session/saved_session.h"

namespace tqkv {

SavedSession SavedSession::open(const std::filesystem::path& path) {
  return SavedSession(std::make_unique<Impl>(path));
}

SavedSession::SavedSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SavedSession::SavedSession(SavedSession&&) noexcept = default;
SavedSession& SavedSession::operator=(SavedSession&&) noexcept = default;
SavedSession::~SavedSession() = default;

const std::filesystem::path& SavedSession::path() const {
  return impl_->file.path();
}
const SessionIdentity& SavedSession::identity() const {
  return impl_->reader.identity();
}
int SavedSession::tokens() const {
  return impl_->reader.tokens();
}
const SavedText& SavedSession::text() const {
  return impl_->reader.text();
}
int SavedSession::last_id() const {
  return impl_->reader.last_id();
}

}  // namespace tqkv

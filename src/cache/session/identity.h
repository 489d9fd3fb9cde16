// The metadata of a session file: what its bytes were computed with, as text.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "tqkv/saved_session.h"

namespace tqkv::cache {

using Metadata = std::map<std::string, std::string>;

Metadata metadata_of(const SessionIdentity& identity, NextText next);

struct Described {
  SessionIdentity identity;
  NextText next = NextText::raw;
};
/// Throws Error(session) for metadata that are not those of a session, or of a newer version of the file.
Described read_metadata(const Metadata& metadata, std::string_view where);

}  // namespace tqkv::cache

// What a SavedSession is inside.
#pragma once
#include <filesystem>

#include "base/file.h"
#include "cache/session/reader.h"
#include "tqkv/saved_session.h"

namespace tqkv {

struct SavedSession::Impl {
  explicit Impl(const std::filesystem::path& path) : file(path), reader(file.bytes(), path.string()) {}
  MappedFile file;
  cache::SessionReader reader;
};

}  // namespace tqkv

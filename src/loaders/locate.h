// Files that come with the program, apart from models (checkpoint.h).
#pragma once
#include <filesystem>

namespace tqkv {

/// The bundled text, which never changes, so that figures of different versions can be compared: next to the bundled
/// checkpoint, with the installed program or in the sources. Throws Error(io) when it is not there.
std::filesystem::path locate_evaluation_text();

}  // namespace tqkv

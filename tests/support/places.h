// Where tests find files and programs. Names of folders stand in places.cpp alone, so that a compiler cache serves
// every clone of the project.
#pragma once
#include <string>

namespace tqkv::test {

/// The folder of the project.
std::string source_dir();
/// The built program.
std::string program();
/// The built tools/make-checkpoint.
std::string make_checkpoint_program();

}  // namespace tqkv::test

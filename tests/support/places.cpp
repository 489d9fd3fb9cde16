#include "support/places.h"

namespace tqkv::test {

std::string source_dir() {
  return TQKV_SOURCE_DIR;
}

std::string program() {
  return TQKV_PROGRAM;
}

std::string make_checkpoint_program() {
  return TQKV_MAKE_CHECKPOINT;
}

}  // namespace tqkv::test

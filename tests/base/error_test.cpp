#include "tqkv/error.h"

#include <doctest/doctest.h>

#include <string>

using namespace tqkv;

TEST_CASE("an error shows its kind in brackets and usage errors alone exit with 2") {
  const Error error(ErrorKind::checkpoint, "model.safetensors: is empty");
  CHECK(std::string(error.what()) == "[checkpoint] model.safetensors: is empty");
  CHECK(error.exit_code() == 1);
  CHECK(Error(ErrorKind::usage, "x").exit_code() == 2);
}

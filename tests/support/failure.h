// The message of an expected error.
#pragma once
#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "tqkv/error.h"

namespace tqkv::test {

/// what() of the Error that `action` throws; fails the test when it throws none, another kind or more than one line.
template <class Action>
std::string failure(ErrorKind kind, const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(name(error.kind()) == name(kind));
    const std::string message = error.what();
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
  FAIL("no error was thrown");
  return "";
}

inline bool contains(std::string_view text, std::string_view part) {
  if (text.find(part) != std::string_view::npos) return true;
  MESSAGE("\"" << std::string(text) << "\" does not contain \"" << std::string(part) << "\"");
  return false;
}

}  // namespace tqkv::test

// What a body is refused with.
#pragma once
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <string_view>

#include "server/protocol/api_error.h"

/// "param: message" of the refusal with status 400; "accepted" where there is none.
template <typename Parse>
std::string refused(const Parse& parse, std::string_view body) {
  try {
    parse(body);
  } catch (const tqkv::server::ApiError& error) {
    CHECK(error.status == 400);
    CHECK(error.type == "invalid_request_error");
    return error.param.value_or("") + ": " + error.what();
  }
  return "accepted";
}

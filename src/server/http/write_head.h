// The first lines of an answer.
#pragma once
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace tqkv::http {

/// Adds the line of the status, the date, `headers` and what becomes of the connection, without the empty line.
void write_head(std::string& out, int status, const Headers& headers, std::string_view connection);
void write_header(std::string& out, std::string_view name, std::string_view value);

}  // namespace tqkv::http

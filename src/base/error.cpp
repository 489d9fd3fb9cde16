#include "tqkv/error.h"

#include <fmt/format.h>

namespace tqkv {

std::string_view name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
      return "usage";
    case ErrorKind::checkpoint:
      return "checkpoint";
    case ErrorKind::config:
      return "config";
    case ErrorKind::tokenizer:
      return "tokenizer";
    case ErrorKind::chat:
      return "chat";
    case ErrorKind::format:
      return "format";
    case ErrorKind::memory:
      return "memory";
    case ErrorKind::io:
      return "io";
    case ErrorKind::session:
      return "session";
    case ErrorKind::hub:
      return "hub";
    case ErrorKind::input:
      return "input";
    case ErrorKind::internal:
      return "internal";
  }
  return "internal";
}

Error::Error(ErrorKind kind, const std::string& message)
    : std::runtime_error(fmt::format("[{}] {}", name(kind), message)), kind_(kind) {}

}  // namespace tqkv

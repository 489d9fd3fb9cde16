// The one exception type of tqkv. Implemented in src/base.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

namespace tqkv {

/// What kind of thing went wrong; stable, so that callers may branch on it.
enum class ErrorKind {
  usage,       ///< options or arguments that make no sense: exit code 2
  checkpoint,  ///< a model directory that is missing, incomplete or contradicts itself
  config,      ///< config.json that cannot be read or describes an architecture tqkv does not run
  tokenizer,   ///< tokenizer.json that cannot be read or does not do what its neighbours say
  chat,        ///< a conversation, or a chat template, that has no rendering
  format,      ///< a cache format that does not exist or does not fit the model
  memory,      ///< a plan that does not fit the machine
  io,          ///< a file that cannot be read or written
  session,     ///< a saved session that is damaged, or that needs another model or format
  hub,         ///< a hub that cannot be reached, refuses, or sends something else than it announced
  input,       ///< a prompt, or a file of ids or messages, that cannot be used
  internal     ///< a defect of tqkv
};

/// The word that stands in brackets in front of a message.
std::string_view name(ErrorKind kind);

/// what() is "[kind] where: what was found, what was expected, what to do", on one line.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message);
  ErrorKind kind() const noexcept { return kind_; }
  /// 2 for usage, 1 for everything else.
  int exit_code() const noexcept { return kind_ == ErrorKind::usage ? 2 : 1; }

 private:
  ErrorKind kind_;
};

}  // namespace tqkv

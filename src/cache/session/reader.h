// SessionReader: the bytes of a session file, of which nothing is trusted. Everything is checked here, so that who
// restores a session only copies: first the header, then whether the file is for this model, then tensor by tensor.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/session/identity.h"
#include "cache/session/layout.h"
#include "tqkv/error.h"

namespace tqkv::cache {

class SessionReader {
 public:
  /// `file` must outlive the reader. Checks the header with its checksum. Throws Error(session), as the others do.
  SessionReader(std::span<const std::byte> file, std::string where);

  const SessionIdentity& identity() const { return described_.identity; }
  int tokens() const { return tokens_; }
  const SavedText& text() const { return text_; }
  int last_id() const { return last_id_; }  ///< of tokens and pending ids, not checked; -1 for none

  /// The tensors that a session of this model and identity has, if these are the file's, in its order.
  std::vector<SessionTensor> layout(const ModelConfig& config, const std::string& fingerprint) const;
  /// Takes the vectors of `count` tokens from `first` on, whose values are checked.
  using TakeTokens = std::function<void(int first, int count, const std::byte* bytes)>;
  /// Checks tensor `index` of the layout: its checksum; ids in the vocabulary, finite numbers, sums of squares that are
  /// not negative, scalars of coded vectors that are finite. Returns its bytes. Those of a paged tensor are handed to
  /// `take` page by page, while they are in the processor's cache; what was taken is worth nothing when this throws.
  std::span<const std::byte> read(const ModelConfig& config, std::span<const SessionTensor> layout, std::size_t index,
                                  const TakeTokens& take = {}) const;

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void check_values(const ModelConfig& config, const SessionTensor& tensor, std::span<const std::byte> bytes) const;
  const SafetensorsEntry* find(std::string_view name) const;
  /// Elements of a vector of `dtype`, which must be there.
  int length_of(std::string_view name, DType dtype) const;

  std::span<const std::byte> file_;
  std::string where_;
  SafetensorsFile header_;
  Described described_;
  SavedText text_;
  int tokens_ = 0;
  int last_id_ = -1;
  bool logits_ = false;
};

}  // namespace tqkv::cache

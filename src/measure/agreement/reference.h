// The rows of logits that others are compared with, in a file: a text of 8,192 tokens with a vocabulary of 248,320 has
// 8 GB of them in f32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace tqkv::measure {

struct ReferenceRow {
  std::vector<double> log_p;  // [vocab]
  int top = 0;                // most likely id
  int next = 0;               // id that follows in the text
  double next_log_p = 0;      // exact, whatever the storage
};

/// How a row is stored, after its exact ln p of the next id and its most likely id.
enum class LogitStorage {
  f32,  ///< logits as they are
  u16   ///< ln p below that of the most likely id in 65,535 steps of one size, at most 40 nats in all. The distance of
        ///< a row to itself, half the variance of the rounding, is at most (40 / 65535)² / 24 = 1.6e-8 nats
};
std::string_view name(LogitStorage storage);

/// A file without a name: it is gone when this ends, however it ends.
class ReferenceLogits {
 public:
  static std::uint64_t bytes(int vocab, int rows, LogitStorage storage);
  /// f32 while that is at most 1 GiB.
  static LogitStorage choose(int vocab, int rows);

  /// `path` is a file to create, which must not exist, or a folder. Throws Error(io), also when the disk has no room
  /// for `rows` rows.
  ReferenceLogits(const std::filesystem::path& path, int vocab, int rows, LogitStorage storage);
  ~ReferenceLogits();
  ReferenceLogits(const ReferenceLogits&) = delete;
  ReferenceLogits& operator=(const ReferenceLogits&) = delete;

  int rows() const { return written_; }
  /// The next row, logits [vocab]; `next` is the id that follows in the text. Throws Error(io), and Error(internal) for
  /// logits that are not finite.
  void append(std::span<const float> logits, int next);
  /// Valid until the next call. Throws Error(io).
  const ReferenceRow& row(int index);

 private:
  void write(std::span<const std::byte> bytes);
  int vocab_, capacity_, written_ = 0;
  LogitStorage storage_;
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::vector<std::byte> buffer_;
  ReferenceRow row_;
};

}  // namespace tqkv::measure

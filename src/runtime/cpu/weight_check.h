// Numbers that no model has, found where they are read first: what costs nothing is checked when a model is loaded, the
// scales of large matrices and of each expert at their first use.
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/weights.h"

namespace tqkv::cpu {

/// Each call throws Error(checkpoint) with the tensor, its element and what stands there: a NaN, an infinity, a number
/// beyond 2^96, or a scale that is denormal. Once a tensor was bad, every call throws. Callers on several threads are
/// safe.
class WeightCheck {
 public:
  WeightCheck(const Checkpoint& checkpoint, const Weights& weights, ThreadPool& pool);

  /// Every vector, and small models whole.
  void at_load();
  void embedding_rows(std::span<const int> ids);
  void layer(int index);                                 // its matrices without the experts
  void experts(int layer, std::span<const int> chosen);  // numbers of experts, any of them more than once
  void head();
  /// Throws for logits that are not finite although every weight is.
  [[noreturn]] void overflow() const;

 private:
  enum class Kind { scale_bf16, bf16, f16, f32 };
  struct Piece {
    const std::byte* data;
    std::size_t count;
    Kind kind;
  };
  static Kind plain(const Matrix& matrix);
  static void add(std::vector<Piece>& pieces, const std::byte* data, std::size_t count, Kind kind);
  static void add(std::vector<Piece>& pieces, const Matrix& matrix);
  static void add(std::vector<Piece>& pieces, const Vector& vector);
  void add_layer(std::vector<Piece>& pieces, int index) const;
  void scan(const std::vector<Piece>& pieces);
  static bool good(const Piece& piece);
  [[noreturn]] void fail(const Piece& piece);
  void require_good();

  const Checkpoint& checkpoint_;
  const Weights& weights_;
  ThreadPool& pool_;
  std::unique_ptr<std::atomic<bool>[]> layers_, experts_;  // checked; [layers], [layers, experts]
  std::size_t experts_of_layer_ = 0;
  std::atomic<bool> head_{false}, bad_{false};
  std::mutex mutex_;
  std::string problem_;  // the first one
};

}  // namespace tqkv::cpu

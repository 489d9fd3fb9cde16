// MemoryPlan: what a session will take, computed before anything is loaded. Implemented in src/runtime.
//
// Anonymous memory (cache, state, working memory) must fit or the plan is refused. Weights are mapped from their files
// and need not be resident: what does not fit is read from the disk again and again, which is worth a warning.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tqkv/engine.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"

namespace tqkv {

/// Sessions that are planned for, on a device.
struct PlanRequest {
  DeviceOptions device = {};
  SessionOptions session = {};
  int snapshots = 0;                            ///< copies of the recurrent state that are kept
  std::optional<int> tokenizer = {};            ///< its tokens; without it: as many as the vocabulary has
  bool every_row = false;                       ///< logits of every token are asked for, not of the last one alone
  std::uint64_t other_sessions = 0;             ///< bytes of anonymous memory that they use at the same time
  std::optional<std::uint64_t> available = {};  ///< instead of what the machine has free, and all it has
  std::optional<std::uint64_t> promised = {};   ///< instead of what the other processes of tqkv will still take
};

enum class Verdict {
  fits,
  weights_spill,  ///< runs, but part of the weights must be read from the disk again for every token
  refused         ///< anonymous memory does not fit
};

/// Bytes, unless another unit is named.
struct MemoryPlan {
  KvFormat format;  ///< as stored: plain sides are f32 under f32 precision
  Precision precision = Precision::fast;
  StateType state = StateType::f32;
  int context = 0;         ///< tokens
  int native_context = 0;  ///< tokens

  std::uint64_t weights = 0;  ///< mapped
  std::uint64_t kv = 0;       ///< whole pages for `context` tokens
  std::uint64_t kv_per_token = 0;
  std::uint64_t recurrent = 0;
  std::uint64_t convolution = 0;
  std::uint64_t snapshots = 0;
  std::uint64_t scratch = 0;     ///< working memory of the forward pass
  std::uint64_t vocabulary = 0;  ///< tokenizer and copies of the logits
  std::uint64_t other_sessions = 0;

  /// What lies where the model runs.
  std::uint64_t sessions() const { return kv + recurrent + convolution + snapshots + scratch + other_sessions; }
  /// Of the machine's memory, what must fit. Weights that are mapped need not.
  std::uint64_t anonymous() const {
    if (!device) return sessions() + vocabulary;
    return vocabulary + (device->unified ? device->needed : 0);
  }
  std::uint64_t total() const { return weights + sessions() + vocabulary; }

  /// Where a device has memory of its own: weights and sessions lie there.
  struct OnDevice {
    std::string name;
    std::uint64_t needed = 0, available = 0;  ///< available 0: not known
    bool unified = false;                     ///< it is taken from the machine's memory too
    std::string advice;                       ///< how the device can have more; empty where nothing is known
    std::uint64_t array = 0,
                  largest_array = 0;  ///< bytes of the largest one array, and what one can have; 0: not known
    bool array_fits() const { return largest_array == 0 || array <= largest_array; }
    bool memory_fits() const { return available == 0 || needed <= available; }
    bool fits() const { return memory_fits() && array_fits(); }
  };
  std::optional<OnDevice> device;

  std::uint64_t available = 0;  ///< 0: the system does not tell, and nothing is refused
  std::uint64_t promised = 0;   ///< of it, to other processes of tqkv that have planned it and not taken it yet
  std::uint64_t keep_free = 0;  ///< of it, that is not planned: for the system and what others take
  /// Bytes for anonymous memory.
  std::uint64_t usable() const { return available > promised + keep_free ? available - promised - keep_free : 0; }
  /// Whether all that must fit does.
  bool fits() const { return (available == 0 || anonymous() <= usable()) && (!device || device->fits()); }
  Verdict verdict = Verdict::fits;
  std::uint64_t disk_per_token = 0;  ///< bytes of weights likely read from the disk for one token of decode

  /// Most tokens of a format that fit `available`, at most the native context; 0 when none do.
  struct Largest {
    KvFormat format;
    int context = 0;
  };
  int largest_context = 0;      ///< of `format`
  int fitting_chunk = 0;        ///< of a refused plan: a smaller prefill chunk with which it fits; 0: there is none
  std::vector<Largest> others;  ///< of the other backends in their default formats
};

/// `weight_bytes` is Checkpoint::tensor_bytes(), or an estimate. Throws Error(usage) for a context beyond the native
/// one or below 1, Error(format) when the format does not fit the model.
MemoryPlan plan_memory(const ModelConfig& config, std::uint64_t weight_bytes, const KvFormat& format,
                       const PlanRequest& request = {});

/// Bytes of `total` memory that a plan leaves free: a 64th, 256 MB at most.
std::uint64_t kept_free(std::uint64_t total);
/// Watches this machine, its container's limit counted, and keeps half of that free: a plan that fits is not stopped by
/// what it left out itself.
MemoryGuard memory_guard();

/// Bytes of the text tensors that a checkpoint of `config` has, by kind in the order of the checkpoint: for a
/// config.json without its weights.
struct WeightKind {
  std::string kind;
  int tensors = 0;
  std::uint64_t bytes = 0;
};
std::vector<WeightKind> expected_weights(const ModelConfig& config);

/// The plan as a table of several lines, each ended by a line break.
std::string describe(const MemoryPlan& plan);
/// One line about weights that will not stay in memory; empty when the verdict is another.
std::string warning(const MemoryPlan& plan);
/// Throws Error(memory) when the plan is refused: one line that names the largest context that would fit, here and with
/// the other backends.
void require_fit(const MemoryPlan& plan);

}  // namespace tqkv

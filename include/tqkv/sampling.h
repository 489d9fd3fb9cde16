// Sampling: how the next id is chosen from logits. Implemented in src/sampling; what checkpoints ask for, in
// src/generation.
//
// The order is that of transformers, after a bias: repetition penalty, presence and frequency penalty, temperature,
// top_k, top_p, min_p; then one draw. Random numbers come from a counter, not from a state, so that every device draws
// the same ones.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace tqkv {

struct Sampling {
  bool greedy = false;              ///< the id with the largest logit, after the penalties
  float temperature = 1.0f;         ///< 0: greedy
  float top_p = 1.0f;               ///< fewest most likely ids that hold this share of the probability; 1: all
  int top_k = 0;                    ///< the k most likely ids; 0: all
  float min_p = 0.0f;               ///< ids at least this share as likely as the most likely one; 0: all
  float repetition_penalty = 1.0f;  ///< divides positive and multiplies negative logits of every id seen; 1: off
  float presence_penalty = 0.0f;    ///< taken off the logits of every id that was generated; 0: off
  float frequency_penalty = 0.0f;   ///< taken off once for each time that the id was generated; 0: off
  std::uint64_t seed = 0;
  std::map<int, float> logit_bias{};  ///< added to the logits of these ids before anything else

  bool is_greedy() const { return greedy || temperature == 0.0f; }
};

/// Throws Error(usage) for a value out of its range: temperature 0 to 100, top_p above 0 to 1, top_k from 0, min_p 0 to
/// 1, repetition_penalty above 0 to 100, presence_penalty and frequency_penalty -100 to 100, logit_bias -100 to
/// 100 of ids from 0.
void check(const Sampling& sampling);

/// What a checkpoint's generation_config.json asks for.
struct GenerationDefaults {
  Sampling sampling;          ///< greedy unless do_sample is true; what is absent is off
  std::vector<int> stop_ids;  ///< eos_token_id; empty when it is absent
  /// A value that cannot be used: the one in `sampling` is then off.
  struct Fault {
    std::string key, message;
  };
  std::vector<Fault> faults;
  /// What other programs write for "off" is off: top_k -1, top_p 0, repetition_penalty 0; 20.0 is 20. `where` names the
  /// file in messages. Throws Error(config) for a file that is no JSON object and for stop ids that are no ids.
  static GenerationDefaults parse(std::string_view json, std::string_view where);
};

/// Throws Error(config) for a fault whose key is not in `replaced`, the keys that were given otherwise.
void require_sound(const GenerationDefaults& defaults, std::span<const std::string_view> replaced = {});

/// Bytes for each id of the vocabulary that a Sampler takes at most, next to the logits.
std::uint64_t sampling_bytes(const Sampling& sampling);
/// The same where nothing is known of the sampling.
inline constexpr std::uint64_t most_sampling_bytes = 21;

/// Uniform in [0, 1), a function of its arguments alone: h >> 11 times 2^-53, where
///   z = seed + (position + 1) * 0x9e3779b97f4a7c15,  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9,
///   z = (z ^ z >> 27) * 0x94d049bb133111eb,  h = z ^ z >> 31,  all modulo 2^64 (SplitMix64, addressed by position).
double uniform(std::uint64_t seed, std::uint64_t position);

/// Chooses ids one after the other and remembers them for the penalties.
class Sampler {
 public:
  /// `allowed` [vocab]: ids that may be chosen; empty: all of them. Throws Error(usage) as check() does, and for a bias
  /// of an id beyond them.
  explicit Sampler(const Sampling& sampling, std::vector<bool> allowed = {});
  /// Asked of an id that was chosen from [vocab]: null where it may stand, else the ids [vocab] to choose from instead.
  using Hold = std::function<const std::vector<bool>*(int id, std::size_t vocab)>;
  /// Holds what is chosen. In place of an id that may not stand, another is drawn from those that may, with the same
  /// random number.
  void hold(Hold hold) { hold_ = std::move(hold); }
  /// Ids of the prompt: the repetition penalty applies to them, the presence and frequency penalties do not.
  void prompt(std::span<const int> ids);
  /// Chooses from logits [vocab] the id that will stand at `position`. Equal logits: the lower id comes first, so top_k
  /// keeps exactly k ids. The draw walks the ids that are left in ascending order until their summed probability (f64)
  /// passes uniform(seed, position). Throws Error(internal) when no allowed logit is a finite number.
  int next(std::span<const float> logits, std::uint64_t position);

  const Sampling& sampling() const { return sampling_; }
  const std::vector<bool>& allowed() const { return allowed_; }  ///< [vocab], or empty
  /// Whether logits and position alone say what is drawn, with what is in sampling() but penalties and biases.
  bool plain() const;

 private:
  friend std::uint64_t sampling_bytes(const Sampling& sampling);
  struct Candidate {
    int id;
    float logit;
    double weight;  // exp((logit - largest) / temperature)
  };
  std::span<const float> adjusted(std::span<const float> logits);
  int choose(std::span<const float> logits, std::uint64_t position, const std::vector<bool>* among);
  int largest(std::span<const float> logits, const std::vector<bool>* among) const;
  int draw(std::span<const float> logits, std::uint64_t position, const std::vector<bool>* among);
  bool may_be(std::size_t id, const std::vector<bool>* among) const {
    return (allowed_.empty() || allowed_[id]) && (!among || (*among)[id]);
  }
  void keep_top_p();

  Sampling sampling_;
  std::vector<bool> allowed_;
  Hold hold_;
  std::unordered_set<int> seen_;
  std::unordered_map<int, int> generated_;  // how often
  std::vector<float> adjusted_;             // logits after biases and penalties
  std::vector<Candidate> candidates_;
};

}  // namespace tqkv

// Tuning: the cache format that costs a model least within a budget, measured on the model itself. Every layer and side
// is measured alone, bits go where they take away most, and the result is checked on a text that had no part in it.
// docs/measuring.md defines every figure.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "measure/agreement/evaluate.h"
#include "tqkv/engine.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"

namespace tqkv::measure {

/// One of the three.
struct TuneGoal {
  std::optional<double> bits;                    ///< nominal bits per value: as many bytes as turboquant of so many
  std::optional<std::uint64_t> bytes_per_token;  ///< of keys and values, all layers
  std::optional<double> kl;                      ///< mean KL that is not to be exceeded, nats
};

struct TuneOptions {
  TuneGoal goal;
  int tokens = 2048;  ///< of the text that is measured on; as many behind them are held out
  Precision precision = Precision::f32;
  StateType state = StateType::f32;
  int prefill_chunk = 2048;
  std::string command;
};

/// A format over one of the two texts, against the uncompressed cache.
struct TuneMeasurement {
  bool held_out = false;
  std::string format;  ///< canonical, as asked
  double kl = 0;       ///< mean over rows, nats
  std::optional<double> kl_se;
  double same_top = 0;  ///< share of rows
  double ratio = 1;     ///< of perplexities
  double seconds = 0;
};

/// What one side of one layer costs alone.
struct TuneSide {
  int layer = 0;  ///< in the model
  bool keys = false;
  struct Point {
    int bits = 0;
    std::string stored;       ///< as the side describes itself
    std::uint64_t bytes = 0;  ///< per token, over the KV heads
    double kl = 0;
  };
  std::vector<Point> points;  ///< by bits, ascending
};

struct Tuning {
  std::string model, shape, fingerprint;
  DeviceReport device;
  std::uint64_t memory = 0;  ///< of the machine or its container, bytes
  TuneOptions options;
  std::string text, text_digest;
  int tokens = 0, held_out_tokens = 0;        ///< as used
  std::vector<TuneMeasurement> measurements;  ///< in the order in which they were made

  bool finished = false;  ///< what follows is set
  std::vector<TuneSide> sides;
  KvFormat chosen;
  bool goal_reached = true;  ///< false: of a goal of KL, which no format that was tried reaches; this one is nearest
  double predicted_kl = 0;   ///< sum of what its sides cost alone
  /// What the result is held against: the chosen one first, for a budget the best with layers of their own, the same
  /// bytes without them, turboquant of 4 bits without options, and the program's default last.
  std::vector<std::string> compared;
  std::uint64_t bytes_per_token = 0, default_bytes_per_token = 0;
  std::uint64_t fixed_bytes = 0;  ///< window, sink and mean, whatever the length of the text
};
std::string to_json(const Tuning& tuning);   ///< kind "tuning", schema 1
std::string to_table(const Tuning& tuning);  ///< for a terminal of 110 columns

class Tuner {
 public:
  /// Throws Error(usage) for options that make no sense, Error(input) for a text that is too short.
  Tuner(EvaluationModel model, const EvaluationText& text, TuneOptions options);
  ~Tuner();
  Tuner(Tuner&&) noexcept;

  const Tuning& tuning() const;
  /// Passes over a text that are left, about.
  int passes() const;
  MemoryPlan plan(std::uint64_t weight_bytes, const DeviceOptions& device) const;
  /// Bytes of the two files of reference logits, in the folder of temporary files.
  std::uint64_t storage() const;
  /// Takes the measurements of an unfinished file. Throws Error(input), naming it, for one of another model, text,
  /// version, device or settings.
  void resume(const std::string& file, std::string_view json, const DeviceReport& device);

  struct Callbacks {
    std::function<void(std::string_view)> progress;  ///< one line, often
    std::function<void(std::string_view)> note;      ///< one line, now and then
    std::function<void(const Tuning&)> measured;     ///< after every pass
  };
  /// Throws Error(usage) for a budget below the smallest format.
  const Tuning& run(const Engine& engine, const Callbacks& callbacks = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tqkv::measure

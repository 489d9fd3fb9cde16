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
#include "measure/files/tuning.h"
#include "tqkv/engine.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"

namespace tqkv::measure {

struct TuneOptions {
  TuneGoal goal;
  int tokens = 2048;  ///< of the text that is measured on; as many behind them are held out
  Precision precision = Precision::f32;
  StateType state = StateType::f32;
  int prefill_chunk = 2048;
  std::string command;
};

struct Tuning : Measured, TuningFigures {
  TuneOptions options;
  std::string text, text_digest;
  int tokens = 0, held_out_tokens = 0;  ///< as used
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

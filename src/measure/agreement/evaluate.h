// Evaluation: what each cache format does to the model. Agreement compares its logits with those of an uncompressed
// cache on a text; recall asks for facts that stand far back in a context. Implemented in src/measure;
// docs/measuring.md defines every figure.
// The file of to_json(): kind "evaluation", schema 1. files/measured.h has what it begins with,
// files/evaluation_fields.h every other field. Its settings are what was asked: a file is resumed only when all of it
// is equal.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "measure/files/evaluation.h"
#include "measure/files/measured.h"
#include "measure/recall/recall.h"
#include "tqkv/chat.h"
#include "tqkv/engine.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model_config.h"
#include "tqkv/tokenizer.h"

namespace tqkv::measure {

struct EvaluateOptions {
  std::vector<KvFormat> formats;                         ///< as asked; no format twice
  std::vector<Precision> precisions = {Precision::f32};  ///< of the agreement, one row of figures each
  Precision recall_precision = Precision::fast;
  std::string preset = "quick";  ///< name for the file
  int tokens = 4096;             ///< most tokens of the text
  int decode_from = 0;           ///< tokens that are prefilled, the others are fed one by one; 0: all but a sixteenth
  bool agreement = true, noise_floor = true, recall = true;
  bool codec_level = true;        ///< with keys and values of the text where there is agreement
  std::filesystem::path capture;  ///< safetensors file for the keys and values of the text, uncompressed
  StateType state = StateType::f32;
  int prefill_chunk = 2048;
  RecallOptions recall_options;
  std::filesystem::path logits;  ///< file for the reference logits; empty: one in the system's temporary folder
  std::string command;           ///< for the file
};
/// Settings of a preset, "quick" or "study", for a model with `native_context` tokens. Throws Error(usage).
EvaluateOptions evaluate_preset(std::string_view preset, int native_context);

struct Evaluation : Measured, EvaluationFigures {
  EvaluateOptions options;
  std::string text, text_digest, recall_digest;  ///< where the text comes from; of the ids used; of all prompts
  int tokens = 0, decode_from = 0;               ///< as used: a text may be shorter than asked
};

std::string to_json(const Evaluation& evaluation);   ///< schema 1
std::string to_table(const Evaluation& evaluation);  ///< for a terminal of 110 columns
/// "turboquant…, f32: KL 0.0050 ± 0.0002, …" on one line.
std::string summary_line(const EvaluationRun& run);

struct EvaluationModel {
  std::string name;
  ModelConfig config;
  std::string fingerprint;
  const Tokenizer* tokenizer = nullptr;
  std::optional<ChatTemplate> chat;  ///< recall needs one
  std::vector<int> stop_ids;
};
struct EvaluationText {
  std::string source;  ///< name for the file
  std::string text;    ///< any bytes
};

/// An evaluation that runs step by step. The constructor makes the recall set and checks every option; nothing runs
/// before run().
class Evaluator {
 public:
  /// Gives the engine for a precision, always the same one.
  using EngineSource = std::function<const Engine&(Precision)>;

  /// Throws Error(usage) for options that make no sense, Error(format) for formats that do not fit the model,
  /// Error(input) for a text with fewer than two tokens, Error(chat) for recall with a model without chat markup.
  Evaluator(EvaluationModel model, const EvaluationText& text, EvaluateOptions options);
  ~Evaluator();
  Evaluator(Evaluator&&) noexcept;

  /// Invalid UTF-8 sequences that were replaced in the text.
  int replaced() const;
  /// Sessions that are open at the same time, by format and precision.
  std::vector<MemoryPlan> plans(std::uint64_t weight_bytes, const DeviceOptions& device) const;
  /// Bytes of the reference logits and where they will lie; nothing without agreement.
  struct Storage {
    std::filesystem::path path;
    std::uint64_t bytes = 0;
  };
  std::optional<Storage> storage() const;

  /// Resumes a file of to_json(): its runs are kept, and not run again. Throws Error(input), naming the file, for
  /// one that is no such JSON and for another model, text, version, device or settings.
  void resume(const std::string& file, std::string_view json, const DeviceReport& device);

  struct Callbacks {
    std::function<void(std::string_view)> progress;                         ///< one line before each part
    std::function<void(const Evaluation&, const EvaluationRun&)> finished;  ///< after every run
  };
  const Evaluation& run(const EngineSource& engines, const Callbacks& callbacks = {});
  const Evaluation& evaluation() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tqkv::measure

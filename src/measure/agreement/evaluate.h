// Evaluation: what each cache format does to the model. Agreement compares its logits with those of an uncompressed
// cache on a text; recall asks for facts that stand far back in a context. Implemented in src/measure;
// docs/measuring.md defines every figure.
//
// The file (to_json), schema 1:
//   schema, kind "evaluation", tool {name, version}, command
//   model {name, shape, fingerprint}, machine {device, cpu, memory}
//   settings    what was asked; a file is resumed only when all of it is equal
//   reference   {format, precision, stored, rows, perplexity, recall}: the uncompressed cache
//   recall_contexts  [{task, length, round, tokens, questions}], the order of `answers`
//   noise_floor [{name, of, of_precision, of_chunk, against, against_precision, against_chunk, agreement}]
//   codec_level [{format, side, stored, input, count, bits_per_value, distortion, distortion_se, bias, bias_se,
//                 score_variance, score_variance_se, bound_lower, bound_upper, expected}]: single vectors, without the
//                 model
//   runs        [{backend, format, effective, precision, bits_per_value {k, v, mean}, bytes_per_token,
//                 cache_bytes {tokens, kv_used, kv_allocated, state, recurrent, convolution}, layers [{layer, k, v}],
//                 agreement, recall, seconds}]
// agreement     {all, prefill, decode, by_position [{from, to, …}], block, block_kl []}; each part {rows, kl {mean, se,
// median, p90, p99,
//               p999, max}, same_top {share, se}, perplexity, reference_perplexity, ratio, ratio_se,
//               probability {mean, rms}}; null where nothing was measured, a standard error of one row included
// recall        {precision, seconds, tasks [{task, asked, right, low, high}], needle [{length, depth, …}],
//               lengths [{length, …}], total {…}, paired {only_reference, only_this, points, low, high, contexts},
//               answers [[1, 0, …], …]}; null in all rows of a format but its first
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

/// Figures over some rows of logits. A standard error uses blocks of up to 256 neighbouring rows as clusters and is
/// missing for a single row.
struct AgreementPart {
  int rows = 0;
  struct {
    double mean = 0, median = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;  // nats, KL(reference || this)
    std::optional<double> se;                                          // of the mean
  } kl;
  double same_top = 0, same_top_se = 0;  ///< share of rows with the same most likely id, and its binomial error
  double perplexity = 1, reference_perplexity = 1;   ///< of the next ids of the text
  double ratio = 1;                                  ///< perplexity / reference_perplexity
  std::optional<double> ratio_se;                    ///< paired, row by row
  double probability_mean = 0, probability_rms = 0;  ///< change of the probability of the next id
};

struct PositionBucket {
  int from = 0, to = 0;  ///< tokens that stand before the row's own: from <= n < to
  AgreementPart part;
};

struct Agreement {
  AgreementPart all;
  std::optional<AgreementPart> prefill, decode;  ///< by how the row's token was fed
  std::vector<PositionBucket> by_position;
  int block = 0;                 ///< neighbouring rows of a cluster
  std::vector<double> block_kl;  ///< mean KL of each in turn, so that formats can be compared block by block
};

struct EvaluationRun {
  KvFormat format;        ///< as asked
  std::string effective;  ///< as stored: canonical string
  Precision precision = Precision::f32;
  double k_bits = 0, v_bits = 0;  ///< stored bits per value, mean over layers; f32 that stands for bf16 counts as 16
  std::uint64_t bytes_per_token = 0;
  int cache_tokens = 0;  ///< tokens of `cache`
  CacheBytes cache;
  struct Layer {
    int layer = 0;
    std::string k, v;
  };
  std::vector<Layer> layers;  ///< as stored
  std::optional<Agreement> agreement;
  std::optional<RecallResult> recall;
  double seconds = 0;
};

struct NoiseFloor {
  std::string name;
  std::string of, against;  ///< formats
  Precision of_precision = Precision::f32, against_precision = Precision::f32;
  int of_chunk = 0, against_chunk = 0;
  Agreement agreement;
};

/// What one side of a format does to single vectors, without the model. Theory: arXiv 2504.19874, theorems 1 to 3.
struct CodecFigures {
  std::string format;  ///< canonical string
  std::string side;    ///< "K", "V", or "K and V" where both are stored alike
  std::string stored;  ///< as the side describes itself
  std::string input;   ///< "gaussian", "adversarial", "captured K" or "captured V"
  int count = 0;       ///< vectors
  double bits_per_value = 0;
  double distortion = 0, distortion_se = 0;          ///< mean |x - x'|^2 / |x|^2, and its standard error
  double bias = 0, bias_se = 0;                      ///< mean <x, x'> / |x|^2 - 1
  double score_variance = 0, score_variance_se = 0;  ///< d mean (<q, x'> - <q, x>)^2 / |x|^2, q random of norm 1
  std::optional<double> lower, upper;                ///< of both errors for vectors in general position
  std::optional<double> expected;                    ///< exact score variance there, where it is known
};

struct Evaluation {
  std::string model, shape, fingerprint, command;
  DeviceReport device;
  std::uint64_t memory = 0;  ///< of the machine or its container, bytes
  EvaluateOptions options;
  std::string text, text_digest, recall_digest;  ///< where the text comes from; of the ids used; of all prompts
  int tokens = 0, decode_from = 0;               ///< as used: a text may be shorter than asked
  std::string reference_format, reference_stored;
  std::optional<double> reference_perplexity;
  std::vector<RecallContext> contexts;
  std::optional<RecallResult> reference_recall;
  std::vector<NoiseFloor> noise;
  std::vector<CodecFigures> codec;
  std::vector<EvaluationRun> runs;
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

// The figures of an evaluation, as its file holds them. docs/measuring.md defines each.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/layers_text.h"
#include "tqkv/cache_report.h"
#include "tqkv/device.h"

namespace tqkv::measure {

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

/// How a share of recall's answers is asked for; wording as in the pocket model's training.
enum class RecallTask { needle, table, rooms, variables, pairs, numbered };
std::string_view name(RecallTask task);
std::optional<RecallTask> recall_task(std::string_view name);
std::vector<RecallTask> all_recall_tasks();

/// A context of the recall set, without its text.
struct RecallContext {
  RecallTask task = RecallTask::needle;
  int length = 0;  ///< tokens asked for
  int round = 0;
  int tokens = 0;  ///< up to the question
  int questions = 0;
};

/// Right answers with the Wilson interval of 95%.
struct Proportion {
  int asked = 0, right = 0;
  double low = 0, high = 1;
  double share() const { return asked == 0 ? 0 : static_cast<double>(right) / asked; }
};

/// Question by question against the uncompressed cache.
struct PairedDifference {
  int only_reference = 0, only_this = 0;
  double points = 0, low = 0, high = 0;  ///< percentage points, with an interval of 95% clustered by context
  int contexts = 0;
};

struct RecallResult {
  Precision precision = Precision::fast;
  double seconds = 0;
  struct Task {
    RecallTask task = RecallTask::needle;
    Proportion of;
  };
  std::vector<Task> tasks;
  struct Length {
    int length = 0;
    Proportion of;
  };
  std::vector<Length> lengths;
  struct Cell {
    int length = 0;
    double depth = 0;
    Proportion of;
  };
  std::vector<Cell> needle;
  Proportion total;
  PairedDifference paired;
  std::vector<std::vector<int>> answers;  ///< [context][question]: 1 right, 0 wrong
};

/// One format in one precision.
struct EvaluationRun {
  std::string format;     ///< as asked: canonical string
  std::string effective;  ///< as stored: canonical string
  Precision precision = Precision::f32;
  double k_bits = 0, v_bits = 0;  ///< stored bits per value, mean over layers; f32 that stands for bf16 counts as 16
  double bits() const { return (k_bits + v_bits) / 2; }
  std::uint64_t bytes_per_token = 0;  ///< of keys and values, all layers
  int cache_tokens = 0;               ///< tokens of `cache`
  CacheBytes cache;
  std::vector<cache::LayerText> layers;
  std::optional<Agreement> agreement;
  std::optional<RecallResult> recall;  ///< in the first run of a format alone
  double seconds = 0;
};

/// What changes where no cache is compressed: two ways to compute the same.
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

/// What a format does to one layer of captured vectors. Means over queries and heads.
struct CapturedFigures {
  std::string model;
  int layer = 0, window = 0, queries = 0;
  Precision precision = Precision::f32;
  std::string format;       ///< canonical string, as held
  std::string k, v;         ///< as stored
  double bits = 0;          ///< stored bits per value, mean of keys and values, without what is plain
  double k_distortion = 0;  ///< |k - k'|^2 / |k|^2, as the last query sees them
  double v_distortion = 0;
  double score_error = 0;    ///< nats: standard deviation of score errors under the exact weights
  double kl = 0, kl_se = 0;  ///< of the attention weights, nats; and its standard error
  double output_error = 0;   ///< |o - o'| / |o|
};

/// The uncompressed cache.
struct EvaluationReference {
  std::string format;
  Precision precision = Precision::f32;
  std::optional<std::string> stored;  ///< its logits: f32 or u16
  int rows = 0;
  std::optional<double> perplexity;
  std::optional<RecallResult> recall;
};

/// Everything of a file behind its header.
struct EvaluationFigures {
  EvaluationReference reference;
  std::vector<RecallContext> contexts;  ///< the order of answers
  std::vector<NoiseFloor> noise;
  std::vector<CodecFigures> codec;
  std::vector<EvaluationRun> runs;
};

/// Of a file of captured vectors.
struct CapturedRuns {
  std::vector<CapturedFigures> figures;
};

}  // namespace tqkv::measure

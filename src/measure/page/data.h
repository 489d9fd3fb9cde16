// What a report is made of: the files that `tqkv evaluate`, `tqkv benchmark` and `tqkv compare` wrote, checked and put
// together where their figures can stand side by side.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "measure/agreement/captured.h"
#include "measure/figures/statistics.h"
#include "measure/page/report.h"
#include "tqkv/device.h"

namespace tqkv::measure {

struct StoredLayer {
  std::uint64_t layer = 0;
  std::string k, v;  // as they are stored
};

/// A file, and what its figures belong to.
struct Source {
  std::string file, kind, version;
  std::string command;          // empty when the file names none and none follows from its settings
  bool command_stored = false;  // in the file; else put together from its settings
  std::string model, shape, fingerprint;
  std::string cpu;
  Device device;
  std::optional<std::uint64_t> memory;                        // bytes
  std::vector<std::pair<std::string, std::string>> settings;  // name, value
};

/// Rows of logits against the reference.
struct AgreementFigures {
  std::uint64_t rows = 0;
  double mean_kl = 0;  // nats, as are the following
  std::optional<double> kl_se, median_kl, p90_kl, p99_kl, p999_kl, max_kl;
  std::optional<double> same_top, same_top_se;  // shares
  std::optional<double> perplexity, reference_perplexity, ratio, ratio_se;
  std::optional<double> probability_mean, probability_rms;  // change of the correct token's probability
};

struct BucketFigures {
  std::uint64_t from = 0, to = 0;  // tokens
  AgreementFigures figures;
};

struct AgreementData {
  AgreementFigures all;
  std::optional<AgreementFigures> prefill, decode;
  std::vector<BucketFigures> by_position;
};

struct Answers {
  std::uint64_t asked = 0, right = 0;
  std::optional<double> low, high;  // of the interval, shares
  double share() const { return asked == 0 ? 0 : static_cast<double>(right) / static_cast<double>(asked); }
};

struct NeedleCell {
  std::uint64_t length = 0;  // tokens
  double depth = 0;          // 0 to 1
  Answers answers;
};

struct RecallData {
  std::string precision;
  std::vector<std::pair<std::string, Answers>> tasks;
  std::vector<std::pair<std::uint64_t, Answers>> lengths;
  std::vector<NeedleCell> needle;
  Answers total;
  struct Paired {
    std::uint64_t only_reference = 0, only_this = 0;
    double points = 0;                // of a hundred, this minus the reference
    std::optional<double> low, high;  // points
  };
  std::optional<Paired> paired;
};

struct KindsOfBytes {
  std::uint64_t kv_used = 0, kv_allocated = 0, recurrent = 0, convolution = 0;
};

struct QualityRun {
  std::string file, format, precision;
  std::string name;  // short, unlike that of the other formats of the report
  double bits = 0;   // stored bits a value, the mean of keys and values
  std::optional<double> k_bits, v_bits;
  std::uint64_t bytes_per_token = 0;  // of keys and values, all layers
  std::optional<KindsOfBytes> bytes;
  std::uint64_t tokens = 0;  // that `bytes` holds
  std::vector<StoredLayer> layers;
  std::optional<AgreementData> agreement;
  std::optional<RecallData> recall;
  bool baseline() const { return format.rfind("baseline", 0) == 0; }
};

struct NoiseLevel {
  std::string name;
  std::string precision;  // of the two sides, where they share one
  double mean_kl = 0;
  AgreementFigures figures;
};

struct CodecEntry {
  std::string format, name, side, input;
  double bits = 0, distortion = 0;
  std::optional<double> distortion_se, bias, bias_se, score_variance, bound_lower, bound_upper;
};

/// One format on the captured vectors of one layer.
struct CapturedEntry {
  CapturedFigures figures;
  std::string name;
};

/// Runs of one model over one text and one set of questions.
struct EvaluationGroup {
  std::string title;  // where there are several
  std::vector<std::string> files;
  std::string model, cpu, device, text, recall_precision;
  std::uint64_t tokens = 0, decode_from = 0, text_tokens = 0;
  std::optional<double> reference_perplexity;
  std::optional<RecallData> reference_recall;
  std::vector<NoiseLevel> noise;
  std::vector<QualityRun> runs;
  std::vector<CodecEntry> codec;
  std::vector<CapturedEntry> captured;
  std::vector<std::string> key;  // equal for files that belong together
};

/// A file of tqkv tune.
struct TuningData {
  std::string file, model, text, chosen;
  std::uint64_t tokens = 0, held_out_tokens = 0, bytes_per_token = 0, default_bytes_per_token = 0, fixed_bytes = 0;
  bool goal_reached = true;
  double predicted_kl = 0;
  struct Side {
    std::uint64_t layer = 0;
    std::string side;
    std::vector<std::pair<std::uint64_t, double>> kl;  // by bits
  };
  std::vector<Side> sides;
  struct Compared {
    std::string format;
    double kl = 0, same_top = 0, ratio = 1;
    std::optional<double> kl_se;
  };
  std::vector<Compared> compared;  // on the held-out text; the default last
};

struct SpeedRun {
  std::string file, format, name;
  std::uint64_t prompt_tokens = 0, generation_tokens = 0, depth = 0, trials = 0;
  Spread prompt_tps;
  std::optional<Spread> generation_tps;                  // none for one generated token
  std::optional<Spread> prompt_ratio, generation_ratio;  // to baseline
  bool paired = false;
  std::uint64_t cache_bytes = 0, cache_bytes_used = 0;
  std::optional<KindsOfBytes> bytes;
  double peak_memory_gb = 0;
  std::optional<double> mean_kl, same_top;
  std::vector<StoredLayer> layers;
};

/// Runs of one model on one machine with one setting.
struct SpeedGroup {
  std::string title;
  std::vector<std::string> files;
  std::string model, cpu, device, precision;
  std::vector<SpeedRun> runs;
  std::vector<std::string> key;
};

struct ReportData {
  std::vector<Source> sources;
  std::vector<EvaluationGroup> evaluations;
  std::vector<SpeedGroup> speeds;
  std::vector<TuningData> tunings;
  std::vector<std::string> formats;  // each once, in order of appearance
};

/// Throws Error(usage) without files, Error(input), naming the file, for one that is none of the four kinds or holds a
/// value that cannot be.
ReportData read_report_files(std::span<const ReportFile> files);

}  // namespace tqkv::measure

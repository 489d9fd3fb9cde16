// What a report is made of: the files that `tqkv evaluate`, `tqkv benchmark` and `tqkv compare` wrote, checked and put
// together where their figures can stand side by side.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "measure/files/evaluation.h"
#include "measure/files/measured.h"
#include "measure/files/speed.h"
#include "measure/files/tuning.h"
#include "measure/page/report.h"
#include "tqkv/device.h"

namespace tqkv::measure {

/// A file, and what its figures belong to.
struct Source : Measured {
  std::string file, kind, version;
  bool command_stored = false;                                // in the file; else put together from its settings
  std::vector<std::pair<std::string, std::string>> settings;  // name, value
};

struct QualityRun : EvaluationRun {
  std::string file;
  std::string name;  // short, unlike that of the other formats of the report
  bool baseline() const { return format.starts_with("baseline"); }
  std::string precision_text() const { return std::string(tqkv::name(precision)); }
};

struct CodecEntry : CodecFigures {
  std::string name;
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
  std::optional<RecallResult> reference_recall;
  std::vector<NoiseFloor> noise;
  std::vector<QualityRun> runs;
  std::vector<CodecEntry> codec;
  std::vector<CapturedEntry> captured;
  std::vector<std::string> key;  // equal for files that belong together
};

/// A file of tqkv tune.
struct TuningData : TuningFigures {
  std::string file, model, text;
  std::uint64_t tokens = 0, held_out_tokens = 0;
  std::vector<TuneMeasurement> on_held_out;  // of `compared`, in that order
};

/// A run of tqkv benchmark or a row of tqkv compare.
struct SpeedRun {
  std::string file, format, name;
  Lengths lengths;
  int trials = 0;
  Spread prompt_tps;
  std::optional<Spread> generation_tps;  // none for one generated token
  std::optional<SpeedRatios> ratios;     // to baseline
  std::uint64_t cache_bytes = 0, cache_bytes_used = 0;
  std::optional<CacheBytes> bytes;
  double peak_memory_gb = 0;
  std::optional<double> mean_kl, same_top;
  std::vector<cache::LayerText> layers;
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

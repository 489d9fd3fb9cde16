#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cache/layers_text.h"
#include "cache/names.h"
#include "measure/agreement/evaluate.h"
#include "measure/figures/number_text.h"
#include "measure/figures/text_table.h"

namespace tqkv::measure {
namespace {

// An error that no digit of the value shows would only widen the table.
std::string value_text(double value, const std::optional<double>& error) {
  return with_error(value, error && *error > 1e-4 * value ? error : std::nullopt, " +- ");
}

std::string kl_text(const AgreementPart& part) {
  return value_text(part.kl.mean, part.kl.se);
}

std::string ratio_text(const AgreementPart& part) {
  if (!part.ratio_se || part.ratio == 1) return fmt::format("{:.4f}", part.ratio);
  return value_text(part.ratio, part.ratio_se);
}

std::string paired_text(const PairedDifference& paired) {
  return fmt::format("{:+.1f} ({:+.1f} to {:+.1f})", paired.points, paired.low, paired.high);
}

std::string heading(const Evaluation& evaluation) {
  const EvaluateOptions& options = evaluation.options;
  std::string out = fmt::format("{} ({})\n{}, {} state, chunks of {}\n", evaluation.model, evaluation.shape,
                                evaluation.device.text(), name(options.state), options.prefill_chunk);
  if (options.agreement) {
    out += fmt::format(
        "agreement: {}, {} tokens{}, the last {} one by one, against an f32 cache in f32 precision\n", evaluation.text,
        evaluation.tokens,
        evaluation.tokens < options.tokens ? fmt::format(" (all it has; {} were asked)", options.tokens) : "",
        std::max(0, evaluation.tokens - 1 - evaluation.decode_from));
  }
  if (options.recall) {
    int asked = 0;
    for (const RecallContext& context : evaluation.contexts) asked += context.questions;
    std::vector<std::string> tasks;
    for (const RecallTask task : options.recall_options.tasks) tasks.emplace_back(name(task));
    out += fmt::format("recall: {} questions about {} contexts of up to {} tokens, {} precision: {}\n", asked,
                       evaluation.contexts.size(),
                       *std::max_element(options.recall_options.lengths.begin(), options.recall_options.lengths.end()),
                       name(options.recall_precision), fmt::join(tasks, ", "));
  }
  return out;
}

std::string noise_lines(const Evaluation& evaluation) {
  if (evaluation.noise.empty()) return "";
  TextTable table({"noise floor of baseline", "mean KL", "p99", "same top"});
  for (const NoiseFloor& noise : evaluation.noise) {
    const AgreementPart& all = noise.agreement.all;
    const bool chunks = noise.of_precision == noise.against_precision;
    table.add(
        {fmt::format("{}, against {}", noise.name, chunks ? fmt::format("chunks of {}", noise.against_chunk) : "f32"),
         kl_text(all), rounded(all.kl.p99), percent(all.same_top)});
  }
  return "\n" + table.text("  ");
}

using Labels = std::map<std::string, std::string>;

std::string agreement_lines(const Evaluation& evaluation, const Labels& labels) {
  const bool both = evaluation.options.precisions.size() > 1 && evaluation.options.agreement;
  TextTable table({"backend", "bits", "B/token", "mean KL", "median", "p99", "same top", "perplexity x"});
  for (const EvaluationRun& run : evaluation.runs) {
    std::string label = labels.at(run.format);
    if (both) label += fmt::format(", {}", name(run.precision));
    std::vector<std::string> row = {label, fmt::format("{:.2f}", run.bits()), fmt::format("{}", run.bytes_per_token)};
    if (run.agreement) {
      const AgreementPart& all = run.agreement->all;
      row.insert(row.end(),
                 {kl_text(all), rounded(all.kl.median), rounded(all.kl.p99), percent(all.same_top), ratio_text(all)});
    } else {
      row.insert(row.end(), 5, "-");
    }
    table.add(std::move(row));
  }
  return "\n" + table.text("  ");
}

// Distortion of single vectors, a column an input.
std::string codec_lines(const Evaluation& evaluation, const Labels& labels) {
  if (evaluation.codec.empty()) return "";
  std::vector<std::string> inputs, header = {"distortion of vectors", "bits"};
  std::map<std::string, std::map<std::string, std::string>> rows;  // label, input -> distortion
  std::map<std::string, std::string> bits;
  std::vector<std::string> order;
  const auto add = [&](const std::string& label, const CodecFigures& figures) {
    if (rows.find(label) == rows.end()) order.push_back(label);
    rows[label][figures.input] = rounded(figures.distortion);
    bits[label] = fmt::format("{:.2f}", figures.bits_per_value);
  };
  // A format with equal sides has one row, to which its captured keys and values belong.
  const auto alike = [&](const std::string& format) {
    return std::any_of(evaluation.codec.begin(), evaluation.codec.end(), [&](const CodecFigures& figures) {
      return figures.format == format && figures.side == "K and V";
    });
  };
  for (const CodecFigures& figures : evaluation.codec) {
    const auto label = labels.find(figures.format);
    if (label == labels.end()) continue;
    if (std::find(inputs.begin(), inputs.end(), figures.input) == inputs.end()) inputs.push_back(figures.input);
    add(alike(figures.format) ? label->second : fmt::format("{}, {}", label->second, figures.side), figures);
  }
  header.insert(header.end(), inputs.begin(), inputs.end());
  TextTable table(header);
  for (const std::string& label : order) {
    std::vector<std::string> row = {label, bits[label]};
    for (const std::string& input : inputs) {
      const auto found = rows[label].find(input);
      row.push_back(found == rows[label].end() ? "-" : found->second);
    }
    table.add(std::move(row));
  }
  return "\n" + table.text("  ");
}

// Right answers by task, and the difference to the uncompressed cache in percentage points.
std::string recall_lines(const Evaluation& evaluation, const Labels& labels) {
  if (!evaluation.reference.recall) return "";
  const RecallResult& reference = *evaluation.reference.recall;
  std::vector<std::string> header = {"right answers"}, asked = {"asked"};
  for (const auto& [task, share] : reference.tasks) {
    header.emplace_back(name(task));
    asked.push_back(fmt::format("{}", share.asked));
  }
  header.insert(header.end(), {"all", "points (95%)"});
  asked.insert(asked.end(), {fmt::format("{}", reference.total.asked), ""});
  TextTable table(header);
  table.add(std::move(asked));
  const auto add = [&](const std::string& label, const RecallResult& recall, const std::string& points) {
    std::vector<std::string> row = {label};
    for (const auto& task : recall.tasks) row.push_back(fmt::format("{}", task.of.right));
    row.insert(row.end(), {fmt::format("{}", recall.total.right), points});
    table.add(std::move(row));
  };
  add("uncompressed", reference, "");
  for (const EvaluationRun& run : evaluation.runs) {
    if (run.recall) add(labels.at(run.format), *run.recall, paired_text(run.recall->paired));
  }
  return "\n" + table.text("  ");
}

}  // namespace

namespace {

/// Tokens of the longest text that a cache held.
int longest_text(const Evaluation& evaluation) {
  int longest = evaluation.options.agreement ? evaluation.tokens - 1 : 0;
  for (const RecallContext& context : evaluation.contexts) longest = std::max(longest, context.tokens);
  return longest;
}

}  // namespace

std::string to_table(const Evaluation& evaluation) {
  std::vector<std::string> formats;
  for (const EvaluationRun& run : evaluation.runs) formats.push_back(run.format);
  const Labels labels = cache::short_names(formats);
  std::string out = heading(evaluation);
  std::vector<std::string> told;
  for (const EvaluationRun& run : evaluation.runs) {
    std::string line = fmt::format("{}: {}", run.effective, cache::layers_text(run.layers));
    const int longest = longest_text(evaluation);
    if (const std::string unused = cache::unused_mean(KvFormat::parse(run.format), longest);
        longest > 0 && !unused.empty())
      line += "; " + unused;
    if (std::find(told.begin(), told.end(), line) == told.end()) told.push_back(line);
  }
  for (const std::string& line : told) out += line + "\n";

  out += agreement_lines(evaluation, labels);
  out += recall_lines(evaluation, labels);
  out += noise_lines(evaluation);
  out += codec_lines(evaluation, labels);
  return out;
}

std::string summary_line(const EvaluationRun& run) {
  std::string out = fmt::format("{}, {}:", run.format, name(run.precision));
  if (run.agreement)
    out += fmt::format(" mean KL {}, same top {}", kl_text(run.agreement->all), percent(run.agreement->all.same_top));
  if (run.recall)
    out += fmt::format("{} recall {}/{} ({:+.1f} points)", run.agreement ? "," : "", run.recall->total.right,
                       run.recall->total.asked, run.recall->paired.points);
  return out + fmt::format("{} {:.1f} s", run.agreement || run.recall ? "," : "", run.seconds);
}

}  // namespace tqkv::measure

// What a reader wants first: where compression loses, and one table with a line for each format.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/numbers.h"
#include "measure/figures/text_table.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

bool at_most_as_large(const QualityRun& run, const QualityRun& rival) {
  return rival.bits() <= run.bits() + 1e-9;
}

bool from_large_to_small(const QualityRun* a, const QualityRun* b) {
  if (a->baseline() != b->baseline()) return a->baseline();
  return a->bits() > b->bits();
}

std::string answers_text(const Proportion& answers) {
  return fmt::format("{}/{}", answers.right, answers.asked);
}

// Formats that lose to a rival of at most their size by more than two standard errors, and those that lose by less.
void add_rivals(const EvaluationGroup& evaluation, const std::string& precision, const std::string& of,
                Section& section) {
  using Kind = Column::Kind;
  const std::vector<const QualityRun*> runs = agreement_runs(evaluation, precision);
  Table table{fmt::format("Mean KL against a rival that is not larger, {} precision{}", precision, of),
              {{"format", Kind::words},
               {"bits per value"},
               {"mean KL, nats"},
               {"loses to", Kind::words},
               {"its bits per value"},
               {"its mean KL, nats"},
               {"apart by, standard errors"}},
              {}};
  std::vector<std::string> lost, close;
  std::size_t compared = 0;
  for (const QualityRun* run : runs) {
    if (run->baseline()) continue;
    const QualityRun* rival = best_rival(runs, *run, at_most_as_large);
    if (rival == nullptr) continue;
    ++compared;
    const AgreementPart &own = run->agreement->all, &its = rival->agreement->all;
    if (own.kl.mean <= its.kl.mean) continue;
    const double apart = difference_in_errors(own, its);
    if (apart <= 2) {
      close.push_back(fmt::format("{} and {}", run->name, rival->name));
      continue;
    }
    lost.push_back(fmt::format("{} to {}", run->name, rival->name));
    table.rows.push_back({run->name, bits_text(run->bits()), with_error(own.kl.mean, own.kl.se), rival->name,
                          bits_text(rival->bits()), with_error(its.kl.mean, its.kl.se),
                          std::isfinite(apart) ? fmt::format("{:.1f}", apart) : "–"});
  }
  const auto say = [&](std::string text) { section.paragraphs.push_back(std::move(text)); };
  if (!lost.empty())
    say(fmt::format("By mean KL, with at least as many bits ({} precision{}), these lose to another backend: {}.",
                    precision, of, listed(lost)));
  if (!close.empty())
    say(fmt::format("Not told apart by two standard errors ({} precision{}): {}.", precision, of, listed(close)));
  if (lost.empty() && compared > 0)
    say(fmt::format(
        "By mean KL, no format loses to one of another backend that is not larger ({} precision{}; {} compared).",
        precision, of, compared));
  if (!table.rows.empty()) section.tables.push_back(std::move(table));
}

void add_recall_losses(const EvaluationGroup& evaluation, const std::string& of, std::vector<std::string>& lines) {
  const std::vector<const QualityRun*> runs = recall_runs(evaluation);
  std::vector<std::string> lost;
  for (const QualityRun* run : runs) {
    if (run->recall->paired.high < 0)
      lost.push_back(fmt::format("{} ({} points)", run->name, points_with_interval(run->recall->paired)));
  }
  if (!lost.empty()) {
    lines.push_back(
        fmt::format("Recall is lower than without compression, beyond the interval{}: {}.", of, listed(lost)));
  } else if (!runs.empty()) {
    lines.push_back(fmt::format(
        "Recall{}: no format answers fewer questions than the uncompressed cache beyond the interval.", of));
  }
}

// Entries with commas of their own.
std::string joined(const std::vector<std::string>& entries) {
  std::string text;
  for (const std::string& entry : entries) text += (text.empty() ? "" : "; ") + entry;
  return text;
}

void add_slow_runs(const SpeedGroup& group, const std::string& of, std::vector<std::string>& lines) {
  std::vector<std::string> decode, prompt;
  for (const SpeedRun& run : group.runs) {
    const auto entry = [&](const Spread& ratio) {
      return fmt::format("{} with {} + {} tokens at depth {}, {} of its speed", run.name,
                         grouped(run.lengths.prompt_tokens), grouped(run.lengths.generation_tokens),
                         tokens_text(run.lengths.depth), ratio_text(ratio));
    };
    if (!run.ratios) continue;
    const SpeedRatios& ratios = *run.ratios;
    if (ratios.generation_tps && ratios.generation_tps->max < 1 && run.lengths.decode_figure())
      decode.push_back(entry(*ratios.generation_tps));
    if (ratios.prompt_tps.max < 1) prompt.push_back(entry(ratios.prompt_tps));
  }
  if (!decode.empty())
    lines.push_back(
        fmt::format("Decodes slower than baseline over the whole range measured{}: {}.", of, joined(decode)));
  if (!prompt.empty())
    lines.push_back(
        fmt::format("Reads the prompt slower than baseline over the whole range measured{}: {}.", of, joined(prompt)));
}

std::vector<std::string> row_of(const QualityRun& run, bool precisions) {
  std::vector<std::string> row = {run.name};
  if (precisions) row.push_back(run.precision_text());
  row.push_back(bits_text(run.bits()));
  row.push_back(grouped(run.bytes_per_token));
  if (run.agreement) {
    const AgreementPart& all = run.agreement->all;
    row.push_back(with_error(all.kl.mean, all.kl.se));
    row.push_back(rounded(all.kl.p99));
    row.push_back(percent_with_error(all.same_top, all.same_top_se));
    row.push_back(with_error(all.ratio, all.ratio_se));
  } else {
    row.insert(row.end(), 4, "–");
  }
  if (run.recall && run.recall->total.asked > 0) {
    row.push_back(answers_text(run.recall->total) + " = " + percent(run.recall->total.share()));
    row.push_back(points_with_interval(run.recall->paired));
  } else {
    row.insert(row.end(), 2, "–");
  }
  return row;
}

}  // namespace

std::string ReportContext::of(const EvaluationGroup& evaluation) const {
  return data.evaluations.size() > 1 ? ": " + evaluation.title : "";
}

std::string ReportContext::of(const SpeedGroup& group) const {
  return data.speeds.size() > 1 ? ": " + group.title : "";
}

std::vector<std::string> precisions_of(const EvaluationGroup& evaluation) {
  std::vector<std::string> precisions;
  for (const QualityRun& run : evaluation.runs) {
    if (run.agreement && std::find(precisions.begin(), precisions.end(), run.precision_text()) == precisions.end())
      precisions.push_back(run.precision_text());
  }
  return precisions;
}

std::vector<const QualityRun*> agreement_runs(const EvaluationGroup& evaluation, const std::string& precision) {
  std::vector<const QualityRun*> runs;
  for (const QualityRun& run : evaluation.runs) {
    if (run.agreement && run.precision_text() == precision) runs.push_back(&run);
  }
  std::stable_sort(runs.begin(), runs.end(), from_large_to_small);
  return runs;
}

std::vector<const QualityRun*> recall_runs(const EvaluationGroup& evaluation) {
  std::vector<const QualityRun*> runs;
  for (const QualityRun& run : evaluation.runs) {
    if (!run.recall || run.recall->total.asked == 0 || (run.baseline() && evaluation.reference_recall)) continue;
    const bool there = std::any_of(runs.begin(), runs.end(), [&](const QualityRun* other) {
      return other->format == run.format && other->file == run.file;
    });
    if (!there) runs.push_back(&run);
  }
  std::stable_sort(runs.begin(), runs.end(), from_large_to_small);
  return runs;
}

const QualityRun* best_rival(const std::vector<const QualityRun*>& runs, const QualityRun& run,
                             bool (*fits)(const QualityRun& run, const QualityRun& rival)) {
  const QualityRun* best = nullptr;
  for (const QualityRun* rival : runs) {
    if (rival->baseline() || backend_of(rival->format) == backend_of(run.format) || !fits(run, *rival)) continue;
    if (best == nullptr || rival->agreement->all.kl.mean < best->agreement->all.kl.mean) best = rival;
  }
  return best;
}

std::string points_with_interval(const PairedDifference& paired) {
  return fmt::format("{} ({} to {})", points_text(paired.points), points_text(paired.low), points_text(paired.high));
}

double difference_in_errors(const AgreementPart& a, const AgreementPart& b) {
  const double error = std::hypot(a.kl.se.value_or(0), b.kl.se.value_or(0)), difference = a.kl.mean - b.kl.mean;
  if (error > 0) return difference / error;
  return difference == 0 ? 0 : std::copysign(std::numeric_limits<double>::infinity(), difference);
}

std::string slug(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
    if (kept) {
      out += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
    if (out.size() == 40) break;
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "other" : out;
}

void add_losses(const ReportContext& context) {
  Section section;
  section.id = "losses";
  section.title = "Where formats lose";
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    const std::string of = context.data.evaluations.size() > 1 ? ", " + evaluation.title : "";
    for (const std::string& precision : precisions_of(evaluation)) add_rivals(evaluation, precision, of, section);
    add_recall_losses(evaluation, of, section.paragraphs);
  }
  for (const SpeedGroup& group : context.data.speeds)
    add_slow_runs(group, context.data.speeds.size() > 1 ? ", " + group.title : "", section.paragraphs);
  if (!section.paragraphs.empty()) context.sections.push_back(std::move(section));
}

void add_summary(const ReportContext& context) {
  using Kind = Column::Kind;
  for (const EvaluationGroup& evaluation : context.data.evaluations) {
    if (evaluation.runs.empty()) continue;
    const bool precisions = std::any_of(evaluation.runs.begin(), evaluation.runs.end(), [&](const QualityRun& run) {
      return run.precision != evaluation.runs.front().precision;
    });
    Section section;
    section.id = "summary";
    section.title = "Summary" + context.of(evaluation);
    Table table{"One line for each format", {{"format", Kind::words}}, {}};
    if (precisions) table.columns.push_back({"precision", Kind::words});
    for (const char* title :
         {"stored bits per value", "KV bytes per token", "mean KL, nats", "KL p99, nats", "same top token",
          "perplexity ratio", "recall, right/asked", "against uncompressed, points"})
      table.columns.push_back({title});
    std::vector<const QualityRun*> runs;
    for (const QualityRun& run : evaluation.runs) runs.push_back(&run);
    std::stable_sort(runs.begin(), runs.end(), from_large_to_small);
    for (const QualityRun* run : runs) table.rows.push_back(row_of(*run, precisions));

    std::string text = fmt::format("{} on {} ({})", evaluation.model, evaluation.cpu, evaluation.device);
    if (evaluation.tokens > 0)
      text += fmt::format(", agreement over {} tokens of {}", grouped(evaluation.tokens),
                          evaluation.text.empty() ? "a text" : evaluation.text);
    if (evaluation.decode_from > 0) text += fmt::format(", token by token from {} on", grouped(evaluation.decode_from));
    if (evaluation.reference_perplexity)
      text += fmt::format("; the uncompressed model has a perplexity of {}", rounded(*evaluation.reference_perplexity));
    section.paragraphs.push_back(text + ".");
    if (evaluation.reference_recall && evaluation.reference_recall->total.asked > 0) {
      section.paragraphs.push_back(
          fmt::format("Uncompressed recall: {} = {}{}.", answers_text(evaluation.reference_recall->total),
                      percent(evaluation.reference_recall->total.share()),
                      evaluation.recall_precision.empty() ? "" : ", " + evaluation.recall_precision + " precision"));
    }
    section.paragraphs.push_back(
        "± is one standard error; the last column is the paired difference, question by question, with its 95% "
        "interval.");
    section.tables.push_back(std::move(table));
    context.sections.push_back(std::move(section));
  }
  if (context.data.evaluations.empty())
    context.left_out.push_back("summary of quality: there is no evaluation among the files");
}

}  // namespace tqkv::measure

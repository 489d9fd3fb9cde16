// The file of an evaluation, schema 1, behind its header (files/measured.h). Nulls: nothing was measured, or the
// standard error of a single row.
#pragma once
#include "measure/files/cache_fields.h"
#include "measure/files/evaluation.h"

namespace tqkv::measure {

inline constexpr Limits nats{0, 1e6}, of_perplexity{0, 1e12}, of_distortion{0, 1e12}, of_bits{0, 64};
inline constexpr Limits of_points{-200, 200}, of_seconds{0, 1e9};

template <>
struct Names<RecallTask> {
  static std::vector<RecallTask> all() { return all_recall_tasks(); }
};

template <class Fields>
void describe(Fields& fields, Described<Fields, AgreementPart>& part) {
  fields.field("rows", part.rows);
  fields.object("kl", [&](auto& kl) {
    kl.field("mean", part.kl.mean, nats);
    kl.field("se", part.kl.se, nats);
    kl.field("median", part.kl.median, nats);
    kl.field("p90", part.kl.p90, nats);
    kl.field("p99", part.kl.p99, nats);
    kl.field("p999", part.kl.p999, nats);
    kl.field("max", part.kl.max, nats);
  });
  fields.object("same_top", [&](auto& same) {
    same.field("share", part.same_top, a_share);
    same.field("se", part.same_top_se, a_share);
  });
  fields.field("perplexity", part.perplexity, of_perplexity);
  fields.field("reference_perplexity", part.reference_perplexity, of_perplexity);
  fields.field("ratio", part.ratio, of_perplexity);
  fields.field("ratio_se", part.ratio_se, of_perplexity);
  fields.object("probability", [&](auto& change) {
    change.field("mean", part.probability_mean, Limits{-1, 1});
    change.field("rms", part.probability_rms, a_share);
  });
}

template <class Fields>
void describe(Fields& fields, Described<Fields, PositionBucket>& bucket) {
  fields.field("from", bucket.from);
  fields.field("to", bucket.to);
  fields.require(bucket.from < bucket.to, "ends before it starts");
  describe(fields, bucket.part);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, Agreement>& agreement) {
  fields.field("all", agreement.all);
  fields.field("prefill", agreement.prefill);
  fields.field("decode", agreement.decode);
  fields.field("by_position", agreement.by_position);
  fields.field("block", agreement.block);
  fields.field("block_kl", agreement.block_kl, nats);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, Proportion>& share) {
  fields.field("asked", share.asked);
  fields.field("right", share.right);
  fields.field("low", share.low, a_share);
  fields.field("high", share.high, a_share);
  fields.require(share.right <= share.asked, "has more right answers than were asked for");
}

template <class Fields>
void describe(Fields& fields, Described<Fields, RecallResult::Task>& task) {
  fields.field("task", task.task);
  describe(fields, task.of);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, RecallResult::Length>& length) {
  fields.field("length", length.length);
  describe(fields, length.of);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, RecallResult::Cell>& cell) {
  fields.field("length", cell.length);
  fields.field("depth", cell.depth, a_share);
  describe(fields, cell.of);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, PairedDifference>& paired) {
  fields.field("only_reference", paired.only_reference);
  fields.field("only_this", paired.only_this);
  fields.field("points", paired.points, Limits{-100, 100});
  fields.field("low", paired.low, of_points);
  fields.field("high", paired.high, of_points);
  fields.field("contexts", paired.contexts);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, RecallResult>& recall) {
  fields.field("precision", recall.precision);
  fields.field("seconds", recall.seconds, of_seconds);
  fields.field("tasks", recall.tasks);
  fields.field("needle", recall.needle);
  fields.field("lengths", recall.lengths);
  fields.field("total", recall.total);
  fields.field("paired", recall.paired);
  fields.field("answers", recall.answers, Limits{0, 1});
}

template <class Fields>
void describe(Fields& fields, Described<Fields, RecallContext>& context) {
  fields.field("task", context.task);
  fields.field("length", context.length);
  fields.field("round", context.round);
  fields.field("tokens", context.tokens);
  fields.field("questions", context.questions);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, EvaluationRun>& run) {
  fields.derived("backend", run.format.substr(0, run.format.find(':')));
  fields.field("format", run.format);
  fields.field("effective", run.effective);
  fields.field("precision", run.precision);
  fields.object("bits_per_value", [&](auto& bits) {
    bits.field("k", run.k_bits, of_bits);
    bits.field("v", run.v_bits, of_bits);
    bits.derived("mean", run.bits());
    bits.require(run.bits() >= 1e-3, "has less than a thousandth of a bit");
  });
  fields.field("bytes_per_token", run.bytes_per_token);
  fields.object("cache_bytes", [&](auto& bytes) {
    bytes.field("tokens", run.cache_tokens);
    describe(bytes, run.cache);
  });
  fields.field("layers", run.layers);
  fields.field("agreement", run.agreement);
  fields.field("recall", run.recall);
  fields.field("seconds", run.seconds, of_seconds);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, NoiseFloor>& noise) {
  fields.field("name", noise.name);
  fields.field("of", noise.of);
  fields.field("of_precision", noise.of_precision);
  fields.field("of_chunk", noise.of_chunk);
  fields.field("against", noise.against);
  fields.field("against_precision", noise.against_precision);
  fields.field("against_chunk", noise.against_chunk);
  fields.field("agreement", noise.agreement);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, CodecFigures>& figures) {
  fields.field("format", figures.format);
  fields.field("side", figures.side);
  fields.field("stored", figures.stored);
  fields.field("input", figures.input);
  fields.field("count", figures.count);
  fields.field("bits_per_value", figures.bits_per_value, Limits{1e-3, 64});
  fields.field("distortion", figures.distortion, of_distortion);
  fields.field("distortion_se", figures.distortion_se, of_distortion);
  fields.field("bias", figures.bias, Limits{-1e12, 1e12});
  fields.field("bias_se", figures.bias_se, of_distortion);
  fields.field("score_variance", figures.score_variance, of_distortion);
  fields.field("score_variance_se", figures.score_variance_se, of_distortion);
  fields.field("bound_lower", figures.lower, of_distortion);
  fields.field("bound_upper", figures.upper, of_distortion);
  fields.field("expected", figures.expected, of_distortion);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, CapturedFigures>& figures) {
  constexpr Limits of_error{0, 1e30};
  fields.field("model", figures.model);
  fields.field("layer", figures.layer, Limits{0, 1 << 20});
  fields.field("window", figures.window);
  fields.field("queries", figures.queries);
  fields.field("precision", figures.precision);
  fields.field("format", figures.format);
  fields.field("k", figures.k);
  fields.field("v", figures.v);
  fields.field("bits_per_value", figures.bits, Limits{1e-3, 64});
  fields.field("k_distortion", figures.k_distortion, of_error);
  fields.field("v_distortion", figures.v_distortion, of_error);
  fields.field("score_error", figures.score_error, of_error);
  fields.field("kl", figures.kl, Limits{-1, 1e30});  // of rounding, a little below 0
  fields.field("kl_se", figures.kl_se, of_error);
  fields.field("output_error", figures.output_error, of_error);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, EvaluationReference>& reference) {
  fields.field("format", reference.format);
  fields.field("precision", reference.precision);
  fields.field("stored", reference.stored);
  fields.field("rows", reference.rows);
  fields.field("perplexity", reference.perplexity, of_perplexity);
  fields.field("recall", reference.recall);
}

/// A file of captured vectors has `runs` alone, which are none.
template <class Fields>
void describe(Fields& fields, Described<Fields, EvaluationFigures>& figures) {
  fields.since("reference", figures.reference);
  fields.since("recall_contexts", figures.contexts);
  fields.since("noise_floor", figures.noise);
  fields.since("codec_level", figures.codec);
  fields.field("runs", figures.runs);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, CapturedRuns>& captured) {
  fields.since("captured", captured.figures);
}

}  // namespace tqkv::measure

// Files of an evaluation, a benchmark and a comparison as the program writes them, with figures of the test's choice.
#pragma once
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tqkv::test {

struct ExampleRun {
  std::string format;
  double bits = 0, kl = 0, se = 0;
  int right = 20;  // of 24
  std::string precision = "f32";
};

inline nlohmann::json example_figures(double kl, double se) {
  return {{"rows", 1000},
          {"kl",
           {{"mean", kl},
            {"se", se},
            {"median", kl / 3},
            {"p90", 2 * kl},
            {"p99", 8 * kl},
            {"p999", 20 * kl},
            {"max", 40 * kl}}},
          {"same_top", {{"share", 0.964}, {"se", 0.0059}}},
          {"perplexity", 14.9},
          {"reference_perplexity", 14.8},
          {"ratio", 1.0068},
          {"ratio_se", 0.0005},
          {"probability", {{"mean", -0.001}, {"rms", 0.02}}}};
}

inline nlohmann::json example_agreement(double kl, double se) {
  nlohmann::json buckets = nlohmann::json::array();
  const int edges[] = {0, 256, 1024, 2048};
  for (int i = 0; i < 3; ++i) {
    nlohmann::json bucket = example_figures(kl * (1 + 0.5 * i), se);
    bucket["from"] = edges[i];
    bucket["to"] = edges[i + 1];
    buckets.push_back(bucket);
  }
  return {{"all", example_figures(kl, se)},
          {"prefill", example_figures(kl, se)},
          {"decode", example_figures(1.5 * kl, se)},
          {"by_position", buckets},
          {"block", 128},
          {"block_kl", {0.5 * kl, 1.5 * kl}}};
}

inline nlohmann::json example_recall(int right) {
  nlohmann::json needle = nlohmann::json::array();
  for (const int length : {1024, 2048}) {
    for (const double depth : {0.0, 0.5, 1.0})
      needle.push_back({{"length", length},
                        {"depth", depth},
                        {"asked", 2},
                        {"right", right > 20 ? 2 : 1},
                        {"low", 0.3},
                        {"high", 1.0}});
  }
  const auto answers = [](int asked, int good) {
    return nlohmann::json{{"asked", asked}, {"right", good}, {"low", 0.5 * good / asked}, {"high", 1.0}};
  };
  nlohmann::json needles = answers(12, std::min(right, 12)), table = answers(12, std::max(0, right - 12));
  needles["task"] = "needle";
  table["task"] = "table";
  nlohmann::json length = answers(24, right);
  length["length"] = 2048;
  return {{"precision", "fast"},
          {"seconds", 2.5},
          {"tasks", {needles, table}},
          {"lengths", nlohmann::json::array({length})},
          {"needle", needle},
          {"total", answers(24, right)},
          {"paired",
           {{"only_reference", 24 - right},
            {"only_this", 0},
            {"points", -100.0 * (24 - right) / 24},
            {"low", -30.5},
            {"high", right < 15 ? -2.5 : 1.5},
            {"contexts", 4}}},
          {"answers", {{1, 0}, {1}}}};
}

/// Of codes of `bits` bits, between the bounds.
inline nlohmann::json example_codec(const std::string& format, const std::string& input, int bits) {
  return {{"format", format},
          {"side", "K and V"},
          {"stored", "codes"},
          {"input", input},
          {"count", 1000},
          {"bits_per_value", bits + 0.0625},
          {"distortion", 0.5 / (1 << (2 * bits))},
          {"distortion_se", 0.0001},
          {"bias", -0.01},
          {"bias_se", 0.002},
          {"score_variance", 0.02},
          {"score_variance_se", 0.001},
          {"bound_lower", 1.0 / (1 << (2 * bits))},
          {"bound_upper", 2.72 / (1 << (2 * bits))},
          {"expected", nullptr}};
}

inline nlohmann::json example_evaluation(const std::vector<ExampleRun>& runs) {
  const nlohmann::json noise = {{"name", "chunks of 256"},       {"of", "baseline:bits=16"},
                                {"of_precision", "f32"},         {"of_chunk", 256},
                                {"against", "baseline:bits=16"}, {"against_precision", "f32"},
                                {"against_chunk", 2048},         {"agreement", example_agreement(0.0011, 0.0001)}};
  nlohmann::json file = {
      {"schema", 1},
      {"kind", "evaluation"},
      {"tool", {{"name", "tqkv"}, {"version", "0.1.0"}}},
      {"command", "tqkv evaluate pocket --backend some --output q.json"},
      {"model", {{"name", "pocket"}, {"shape", "qwen3_5_moe, 8 layers"}, {"fingerprint", "f99308941c57bb33"}}},
      {"machine", {{"cpu", "AMD EPYC"}, {"isa", "avx512"}, {"threads", 2}, {"memory", 25276514304u}}},
      {"settings",
       {{"preset", "quick"},
        {"precision", nlohmann::json::array({"f32"})},
        {"recall_precision", "fast"},
        {"text", "documents"},
        {"text_digest", "a5ed"},
        {"tokens", 2048},
        {"decode_from", 1920},
        {"seed", 0}}},
      {"reference",
       {{"format", "baseline:bits=16"},
        {"precision", "f32"},
        {"stored", "f32"},
        {"rows", 2047},
        {"perplexity", 14.8},
        {"recall", example_recall(24)}}},
      {"noise_floor", nlohmann::json::array({noise})},
      {"codec_level", nlohmann::json::array()},
      {"runs", nlohmann::json::array()}};
  for (const ExampleRun& run : runs) {
    const auto per_token = static_cast<int>(256 * run.bits);
    file["runs"].push_back({{"backend", run.format.substr(0, run.format.find(':'))},
                            {"format", run.format},
                            {"effective", run.format},
                            {"precision", run.precision},
                            {"bits_per_value", {{"k", run.bits}, {"v", run.bits}, {"mean", run.bits}}},
                            {"bytes_per_token", per_token},
                            {"cache_bytes",
                             {{"tokens", 2047},
                              {"kv_used", 2047 * per_token},
                              {"kv_allocated", 2048 * per_token},
                              {"state", 3219456},
                              {"recurrent", 3145728},
                              {"convolution", 73728}}},
                            {"layers",
                             {{{"layer", 3}, {"k", "side " + run.format}, {"v", "v"}},
                              {{"layer", 7}, {"k", "side " + run.format}, {"v", "v"}}}},
                            {"agreement", example_agreement(run.kl, run.se)},
                            {"recall", example_recall(run.right)},
                            {"seconds", 3.5}});
  }
  return file;
}

/// Runs of baseline and mlx_quant at each depth; mlx_quant decodes 1.5 times as fast and reads prompts at 0.9 of it.
inline nlohmann::json example_benchmark(const std::vector<int>& depths) {
  nlohmann::json file = {
      {"schema", 1},
      {"kind", "benchmark"},
      {"tool", {{"name", "tqkv"}, {"version", "0.1.0"}}},
      {"model", {{"name", "pocket"}, {"shape", "qwen3_5_moe, 8 layers"}, {"fingerprint", "f99308941c57bb33"}}},
      {"machine", {{"cpu", "AMD EPYC"}, {"isa", "avx512"}, {"threads", 2}, {"memory", 25276514304u}}},
      {"settings", {{"precision", "fast"}, {"state", "f32"}, {"prefill_chunk", 2048}, {"ids", "random ids, seed 7"}}},
      {"runs", nlohmann::json::array()}};
  const nlohmann::json layer = {{"layer", 3}, {"k", "side"}, {"v", "side"}};
  const auto spread = [](double value, double part) {
    return nlohmann::json{{"median", value}, {"min", value * (1 - part)}, {"max", value * (1 + part)}};
  };
  for (const int depth : depths) {
    for (const bool baseline : {true, false}) {
      const double decode = (baseline ? 800 : 1200) - depth / 100.0, prompt = baseline ? 4000 : 3600;
      nlohmann::json trials = nlohmann::json::array();
      const nlohmann::json bytes = {{"kv_used", baseline ? 8908800 : 2505600},
                                    {"kv_allocated", baseline ? 9437184 : 2654208},
                                    {"state", 3219456},
                                    {"recurrent", 3145728},
                                    {"convolution", 73728}};
      const auto trial = [&](double part) {
        return nlohmann::json{{"order", 0},
                              {"prompt_tps", prompt * part},
                              {"generation_tps", decode * part},
                              {"generation_tps_mlx", decode * part * 128 / 127},
                              {"prompt_s", 2048 / prompt / part},
                              {"encode_s", 0.001},
                              {"decode_s", 127 / decode / part},
                              {"weights_gb", 0.1},
                              {"peak_anonymous_gb", 0.025},
                              {"cache", bytes},
                              {"digest", "6d01"}};
      };
      for (const double part : {0.95, 1.0, 1.1}) trials.push_back(trial(part));
      file["runs"].push_back({{"backend", baseline ? "baseline" : "mlx_quant"},
                              {"format", baseline ? "baseline:bits=16" : "mlx_quant:k=4:v=4:group=64"},
                              {"layers", nlohmann::json::array({layer})},
                              {"activation_bits", {{"tolerant", 8}}},
                              {"prompt_tokens", 2048},
                              {"generation_tokens", 128},
                              {"depth", depth},
                              {"open_sessions", 1},
                              {"ids_digest", "1d5"},
                              {"predicted", bytes},
                              {"mean_kl", baseline ? 0.0 : 0.0106},
                              {"same_top", baseline ? 1.0 : 0.9375},
                              {"quality_rows", 128},
                              {"warmup", trial(0.9)},
                              {"trials", trials},
                              {"ratio_to_baseline",
                               {{"paired", true},
                                {"prompt_tps", spread(baseline ? 1 : 0.9, 0.05)},
                                {"generation_tps", spread(baseline ? 1 : 1.5, 0.05)}}}});
    }
  }
  return file;
}

}  // namespace tqkv::test

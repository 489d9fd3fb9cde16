// Attention of one query over packed keys and values. For each query head, with k and v decoded from their codes:
//
//   for token: score = q . k[token];  top = max(top, score);
//              sum = sum * exp(old top - top) + exp(score - top), values likewise with v[token]
//
// A simdgroup has a run of tokens and a few query heads of a KV head, its lanes have the channels. The tokens are cut
// into pieces, one for each threadgroup of a KV head; the runs of a piece are joined in threadgroup memory. A token
// costs the bytes of its vectors, 260 for 4 bits and 256 channels, and 4 dim operations a query head. Lanes decode 2
// dim channels for each simdgroup that needs them, so the operations bound it, not the bytes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "codec/codebook.h"
#include "runtime/mlx/kernels/kernels.h"
#include "runtime/mlx/kernels/text.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

using Kind = SideFormat::Kind;

constexpr int lanes = 32;
// Of a threadgroup. Metal allows 1,024 threads, but of a kernel with many registers fewer, and refuses a call with
// more.
constexpr int most_simdgroups = 16;
constexpr int most_shared_bytes = 24576;
constexpr int most_pieces = 64;
constexpr int fewest_tokens_of_run = 64;

bool coded(const SideFormat& side) {
  return side.kind == Kind::turboquant;
}

// Stored as MLX quantizes: its products read the codes.
bool affine(const SideFormat& side) {
  return side.kind == Kind::affine || side.kind == Kind::rotated_affine;
}

mx::array as_float(const mx::array& x) {
  return mx::astype(x, mx::float32);
}

// Lanes have dim / 32 neighbouring channels each, so that a lane's bits of a plane lie in one word.
const char* const functions = R"(
template <typename Words>
inline uint tqkv_plane(Words words, int lane, int width) {
  const int first = lane * tqkv_channels * width;
  return words[first / 32] >> (first % 32);
}

template <int bits, typename Words>
inline void tqkv_centroids(Words words, const threadgroup float* table, int lane, thread float* out) {
  constexpr int low = bits == 3 || bits == 5 ? bits - 1 : bits;
  const uint codes = tqkv_plane(words, lane, low);
  const uint tops = low == bits ? 0u : tqkv_plane(words + tqkv_dim * low / 32, lane, 1);
  for (int c = 0; c < tqkv_channels; c++) {
    const uint index = ((codes >> (c * low)) & ((1u << low) - 1u)) | (((tops >> c) & 1u) << low);
    out[c] = table[index];
  }
}

template <typename Numbers>
inline void tqkv_numbers(Numbers numbers, int lane, thread float* out) {
  for (int c = 0; c < tqkv_channels; c++) out[c] = static_cast<float>(numbers[lane * tqkv_channels + c]);
}
)";

const char* const body = R"(
  const int lane = static_cast<int>(thread_index_in_simdgroup);
  const int simdgroup = static_cast<int>(simdgroup_index_in_threadgroup);
  const int run = simdgroup / tqkv_teams;
  const int team = simdgroup % tqkv_teams;
  const int piece = static_cast<int>(threadgroup_position_in_grid.y);
  const int pieces = static_cast<int>(threadgroups_per_grid.y);
  const int group = static_cast<int>(threadgroup_position_in_grid.z);  // of query heads
  const int kv_head = group / tqkv_parts;
  const int head = (group * tqkv_teams + team) * tqkv_heads_each;  // the first of this simdgroup
  const int begin = place[0] + piece * place[2];
  const int end = min(place[1], begin + place[2]);
  const int mean_from = place[5];
  const size_t first_key = static_cast<size_t>(kv_head) * static_cast<size_t>(place[3]);
  const size_t first_value = static_cast<size_t>(kv_head) * static_cast<size_t>(place[4]);
{tables}
  float q[tqkv_heads_each][tqkv_channels];
  float sums[tqkv_heads_each][tqkv_channels];
  float maximum[tqkv_heads_each];
  float total[tqkv_heads_each];
  float mean[tqkv_heads_each];
  for (int h = 0; h < tqkv_heads_each; h++) {
    for (int c = 0; c < tqkv_channels; c++) {
      q[h][c] = query[(head + h) * tqkv_dim + lane * tqkv_channels + c];
      sums[h][c] = 0.0f;
    }
    maximum[h] = tqkv_lowest;
    total[h] = 0.0f;
    mean[h] = mean_scores[head + h];
  }

  // A few tokens at once: their loads do not wait for one another, and the sums are scaled once for all of them. Behind
  // the end the last token stands in, with a score that has no weight.
  for (int block = begin + run * tqkv_tokens; block < end; block += tqkv_runs * tqkv_tokens) {
    float channels[tqkv_channels];
    float scores[tqkv_heads_each][tqkv_tokens];
    for (int t = 0; t < tqkv_tokens; t++) {
      const int token = min(block + t, end - 1);
      const size_t key = first_key + static_cast<size_t>(token);
{read_key}
      for (int h = 0; h < tqkv_heads_each; h++) {
        float product = 0.0f;
        for (int c = 0; c < tqkv_channels; c++) product += q[h][c] * channels[c];
        const float score = simd_sum(product) * key_factor + (token >= mean_from ? mean[h] : 0.0f);
        scores[h][t] = block + t < end ? score : tqkv_lowest;
      }
    }
    for (int h = 0; h < tqkv_heads_each; h++) {
      float top = maximum[h];
      for (int t = 0; t < tqkv_tokens; t++) top = max(top, scores[h][t]);
      const float kept = exp(maximum[h] - top);
      maximum[h] = top;
      total[h] *= kept;
      for (int c = 0; c < tqkv_channels; c++) sums[h][c] *= kept;
      for (int t = 0; t < tqkv_tokens; t++) {
        scores[h][t] = exp(scores[h][t] - top);
        total[h] += scores[h][t];
      }
    }
    for (int t = 0; t < tqkv_tokens; t++) {
      const size_t value = first_value + static_cast<size_t>(min(block + t, end - 1));
{read_value}
      for (int h = 0; h < tqkv_heads_each; h++) {
        const float weight = scores[h][t] * value_factor;
        for (int c = 0; c < tqkv_channels; c++) sums[h][c] += weight * channels[c];
      }
    }
  }
{join_runs}
  if (run == 0) {
    for (int h = 0; h < tqkv_heads_each; h++) {
      const size_t at = static_cast<size_t>(head + h) * static_cast<size_t>(pieces) + static_cast<size_t>(piece);
      for (int c = 0; c < tqkv_channels; c++) values[at * tqkv_dim + lane * tqkv_channels + c] = sums[h][c];
      if (lane == 0) {
        maxima[at] = maximum[h];
        totals[at] = total[h];
      }
    }
  }
)";

// The upper half of the runs hands what it has to the lower half, until one is left. A run without tokens has a
// maximum that any score exceeds, and a sum of 0.
const char* const join_runs = R"(
  threadgroup float shared_sums[tqkv_slots * tqkv_dim];
  threadgroup float shared_maximum[tqkv_slots];
  threadgroup float shared_total[tqkv_slots];
  for (int half_runs = tqkv_runs / 2; half_runs > 0; half_runs /= 2) {
    const int slot = ((run % half_runs) * tqkv_teams + team) * tqkv_heads_each;
    if (run >= half_runs && run < 2 * half_runs) {
      for (int h = 0; h < tqkv_heads_each; h++) {
        for (int c = 0; c < tqkv_channels; c++) shared_sums[(slot + h) * tqkv_dim + c * 32 + lane] = sums[h][c];
        if (lane == 0) {
          shared_maximum[slot + h] = maximum[h];
          shared_total[slot + h] = total[h];
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (run < half_runs) {
      for (int h = 0; h < tqkv_heads_each; h++) {
        const float top = max(maximum[h], shared_maximum[slot + h]);
        const float own = exp(maximum[h] - top);
        const float other = exp(shared_maximum[slot + h] - top);
        maximum[h] = top;
        total[h] = total[h] * own + shared_total[slot + h] * other;
        for (int c = 0; c < tqkv_channels; c++)
          sums[h][c] = sums[h][c] * own + shared_sums[(slot + h) * tqkv_dim + c * 32 + lane] * other;
      }
    }
    if (half_runs > 1) threadgroup_barrier(mem_flags::mem_threadgroup);  // they are written again
  }
)";

const char* const fill_tables = R"(
  const int thread_index = simdgroup * 32 + lane;
{fill}
  threadgroup_barrier(mem_flags::mem_threadgroup);
)";

std::string read_side(const std::string& side, bool is_coded) {
  const std::string text =
      is_coded
          ? R"(      tqkv_centroids<tqkv_{side}_bits>({side}_codes + {side} * (tqkv_dim * tqkv_{side}_bits / 32), {side}_table, lane,
                                       channels);
      const float {side}_factor = static_cast<float>({side}_scalars[{side}]) * tqkv_scale;)"
          : R"(      tqkv_numbers({side}_codes + {side} * tqkv_dim, lane, channels);
      const float {side}_factor = 1.0f;)";
  return with(text, "{side}", side);
}

std::string table_of(const std::string& side, int bits) {
  return with(with(R"(
  threadgroup float {side}_table[{size}];
  if (thread_index < {size}) {side}_table[thread_index] = tqkv_{side}_centroids[thread_index];)",
                   "{side}", side),
              "{size}", std::to_string(1 << bits));
}

int slots_of(const AttentionPlan& plan) {
  return plan.runs / 2 * plan.teams * plan.heads_each;
}

int tokens_of_piece(int tokens, int runs) {
  return std::max(fewest_tokens_of_run * runs, (tokens + most_pieces - 1) / most_pieces);
}

bool stored_by_kernels(const SideFormat& side) {
  return side.kind == Kind::plain ? side.bits == 16 : coded(side) && side.bits >= 2 && side.bits <= 5;
}

}  // namespace

AttentionPlan attention_plan(int heads, int kv_heads, int dim) {
  const int group = heads / kv_heads;
  AttentionPlan plan;
  plan.heads_each = group % 2 == 0 ? 2 : 1;
  const int teams = group / plan.heads_each;
  while (teams % plan.parts != 0 || teams / plan.parts > most_simdgroups) ++plan.parts;
  plan.teams = teams / plan.parts;
  const auto fits = [&](int runs) {
    const int bytes = runs / 2 * plan.teams * plan.heads_each * (dim + 2) * static_cast<int>(sizeof(float));
    return plan.teams * runs <= most_simdgroups && bytes <= most_shared_bytes;
  };
  while (fits(2 * plan.runs)) plan.runs *= 2;
  return plan;
}

bool has_kernel(const SideFormat& keys, const SideFormat& values, int heads, int kv_heads, int dim) {
  return stored_by_kernels(keys) && stored_by_kernels(values) && (dim == 64 || dim == 128 || dim == 256) &&
         kv_heads > 0 && heads % kv_heads == 0;
}

KernelCall attention_call(const AttentionInput& input, const AttentionPlan& plan) {
  const int heads = input.query.shape(0), dim = input.query.shape(1);
  const SideFormat &keys = input.keys.format, &values = input.values.format;
  const int kv_heads = input.keys.payload.front().shape(0);
  const int key_capacity = input.keys.payload.front().shape(1), value_capacity = input.values.payload.front().shape(1);
  if (!has_kernel(keys, values, heads, kv_heads, dim) || input.first < 0 || input.first >= input.last ||
      input.last > std::min(key_capacity, value_capacity))
    throw Error(ErrorKind::internal, fmt::format("the attention kernel was called for tokens {} to {} of {}/{}, {} and "
                                                 "{}, {} heads over {}, {} channels",
                                                 input.first, input.last, key_capacity, value_capacity, keys.describe(),
                                                 values.describe(), heads, kv_heads, dim));
  const int tokens = input.last - input.first, piece = tokens_of_piece(tokens, plan.runs);
  const int pieces = (tokens + piece - 1) / piece;

  KernelCall call;
  call.name = fmt::format("tqkv_attend_k{}_v{}_d{}_h{}_t{}_p{}_r{}_b{}", keys.bits, values.bits, dim, plan.heads_each,
                          plan.teams, plan.parts, plan.runs, plan.tokens);
  call.header = constant("tqkv_dim", dim) + constant("tqkv_channels", dim / lanes) +
                constant("tqkv_key_bits", keys.bits) + constant("tqkv_value_bits", values.bits) +
                constant("tqkv_heads_each", plan.heads_each) + constant("tqkv_teams", plan.teams) +
                constant("tqkv_parts", plan.parts) + constant("tqkv_runs", plan.runs) +
                constant("tqkv_tokens", plan.tokens) + constant("tqkv_slots", slots_of(plan)) +
                constant("tqkv_lowest", std::numeric_limits<float>::lowest()) +
                constant("tqkv_scale", 1.0f / std::sqrt(static_cast<float>(dim)));
  std::string fill;
  const auto add_side = [&](const std::string& side, const StoredSide& stored) {
    call.input_names.push_back(side + "_codes");
    call.inputs.push_back(stored.payload[0]);
    if (!coded(stored.format)) return;
    call.input_names.push_back(side + "_scalars");
    call.inputs.push_back(stored.payload[1]);
    call.header += table("tqkv_" + side + "_centroids", codec::centroids(stored.format.bits));
    fill += table_of(side, stored.format.bits);
  };
  call.input_names = {"query"};
  call.inputs = {input.query};
  add_side("key", input.keys);
  add_side("value", input.values);
  call.input_names.insert(call.input_names.end(), {"mean_scores", "place"});
  call.inputs.push_back(input.mean_scores ? *input.mean_scores : input.query);  // not added where there are none
  const int mean_from = input.mean_scores ? input.mean_from : std::numeric_limits<int>::max();
  call.inputs.push_back(
      mx::array({input.first, input.last, piece, key_capacity, value_capacity, mean_from}, mx::int32));
  call.header += functions;
  call.source = with(body, "{tables}", fill.empty() ? "" : with(fill_tables, "{fill}", fill));
  call.source = with(call.source, "{read_key}", read_side("key", coded(keys)));
  call.source = with(call.source, "{read_value}", read_side("value", coded(values)));
  call.source = with(call.source, "{join_runs}", plan.runs > 1 ? join_runs : "");
  call.output_names = {"values", "maxima", "totals"};
  call.shapes = {{heads, pieces, dim}, {heads, pieces}, {heads, pieces}};
  call.types = {mx::float32, mx::float32, mx::float32};
  const int simdgroups = plan.teams * plan.runs;
  call.group = {lanes * simdgroups, 1, 1};
  call.grid = {lanes * simdgroups, pieces, kv_heads * plan.parts};
  return call;
}

Partial attend(const RunKernel& run, const AttentionInput& input) {
  const int heads = input.query.shape(0), dim = input.query.shape(1);
  const std::vector<mx::array> made =
      run(attention_call(input, attention_plan(heads, input.keys.payload.front().shape(0), dim)));
  return {made[0], made[1], made[2]};
}

namespace {

/// Rows [kv heads, n, dim] by the vectors of a side -> [kv heads, n, last - first].
mx::array times_vectors(const mx::array& rows, const StoredSide& side, int first, int last) {
  const Payload& payload = side.payload;
  const int kv_heads = payload.front().shape(0), dim = rows.shape(2);
  if (affine(side.format))
    return mx::slice(mx::quantized_matmul(rows, payload[0], as_float(payload[1]), as_float(payload[2]), true,
                                          side.format.group, side.format.bits),
                     {0, 0, first}, {kv_heads, rows.shape(1), last});
  const mx::array vectors = Codec(side.format, kv_heads, dim).decode(tokens_of(payload, first, last));
  return mx::matmul(rows, mx::swapaxes(vectors, 1, 2));
}

/// Weights [kv heads, n, last - first] by the vectors of a side -> [kv heads, n, dim].
mx::array times_tokens(const mx::array& weights, const StoredSide& side, int first, int last, int dim) {
  const Payload& payload = side.payload;
  const int kv_heads = payload.front().shape(0), capacity = payload.front().shape(1);
  if (affine(side.format)) {
    const mx::array all = mx::pad(weights, {{0, 0}, {0, 0}, {first, capacity - last}});
    return mx::quantized_matmul(all, payload[0], as_float(payload[1]), as_float(payload[2]), false, side.format.group,
                                side.format.bits);
  }
  return mx::matmul(weights, Codec(side.format, kv_heads, dim).decode(tokens_of(payload, first, last)));
}

}  // namespace

Partial attend_plain(const AttentionInput& input) {
  const int heads = input.query.shape(0), dim = input.query.shape(1), kv_heads = input.keys.payload.front().shape(0);
  const int tokens = input.last - input.first, group = heads / kv_heads;
  mx::array scores =
      mx::reshape(times_vectors(mx::reshape(input.query, {kv_heads, group, dim}), input.keys, input.first, input.last),
                  {heads, tokens});
  if (input.mean_scores) {
    const mx::array after = mx::greater_equal(mx::arange(input.first, input.last), mx::array(input.mean_from));
    scores = mx::where(after, mx::add(scores, mx::expand_dims(*input.mean_scores, 1)), scores);
  }
  const mx::array maximum = mx::max(scores, 1, true);
  const mx::array weights = mx::exp(mx::subtract(scores, maximum));
  const mx::array sums =
      times_tokens(mx::reshape(weights, {kv_heads, group, tokens}), input.values, input.first, input.last, dim);
  return {mx::reshape(sums, {heads, 1, dim}), maximum, mx::sum(weights, 1, true)};
}

Partial as_one(const std::vector<Partial>& partials) {
  const auto all = [&](mx::array Partial::*part) {
    std::vector<mx::array> arrays;
    arrays.reserve(partials.size());
    for (const Partial& one : partials) arrays.push_back(one.*part);
    return arrays.size() == 1 ? arrays.front() : mx::concatenate(std::move(arrays), 1);
  };
  if (partials.size() == 1 && partials.front().maximum.shape(1) == 1) return partials.front();
  const mx::array maxima = all(&Partial::maximum), maximum = mx::max(maxima, 1, true);
  const mx::array weights = mx::exp(mx::subtract(maxima, maximum));  // [heads, pieces]
  return {mx::matmul(mx::expand_dims(weights, 1), all(&Partial::values)), maximum,
          mx::sum(mx::multiply(weights, all(&Partial::sum)), 1, true)};
}

mx::array join(const std::vector<Partial>& partials) {
  const Partial one = as_one(partials);
  return mx::divide(mx::squeeze(one.values, 1), one.sum);
}

std::vector<mx::array> run_on_metal(const KernelCall& call) {
  thread_local std::map<std::string, mx::fast::CustomKernelFunction> kernels;  // by name, which is of one text
  auto kernel = kernels.find(call.name);
  if (kernel == kernels.end())
    kernel = kernels
                 .emplace(call.name, mx::fast::metal_kernel(call.name, call.input_names, call.output_names, call.source,
                                                            call.header))
                 .first;
  const auto threads = [](const std::array<int, 3>& of) { return std::tuple(of[0], of[1], of[2]); };
  return kernel->second(call.inputs, call.shapes, call.types, threads(call.grid), threads(call.group), {}, std::nullopt,
                        false, {});
}

}  // namespace tqkv::mlx

// Microbenchmarks of the CPU kernels on the shapes of Qwen3.5-35B-A3B, on one thread:
//   build/release/bin/kernel-benchmarks [--isa NAME] [--benchmark_filter=REGEX …]
// Counters: GB/s of weights, cache or state read (and written, where a kernel writes them back), GMAC/s of
// multiply-adds of a weight and an activation. Weights come from memory that is in no cache; everything else is warm.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "codec/rotation.h"
#include "codec/side_codec.h"
#include "runtime/cpu/kernels.h"
#include "tqkv/kv_format.h"

namespace {

using namespace tqkv;
using namespace tqkv::cpu;

const Kernels* kernel = nullptr;

constexpr int hidden = 2048, inner = 512, query_dim = 4096, head_dim = 256, group = 8;
constexpr std::size_t cold_bytes = std::size_t{512} << 20;  // more than any cache

std::size_t size(std::ptrdiff_t n) {
  return static_cast<std::size_t>(n);
}

std::vector<float> normal_floats(std::size_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& v : out) v = normal(random);
  return out;
}

std::vector<std::byte> random_bytes(std::size_t n) {
  std::vector<std::byte> out(n);
  std::uint64_t state = 1;
  for (std::size_t i = 0; i + 8 <= n; i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t word = state ^ (state >> 29);
    std::memcpy(out.data() + i, &word, 8);
  }
  return out;
}

/// Matrices one after the other, more than the caches can keep; next() uses them in order, again and again.
class ColdMatrices {
 public:
  ColdMatrices(Matrix::Storage storage, int out, int in) {
    matrix_.storage = storage;
    matrix_.out = out;
    matrix_.in = in;
    const std::size_t scale_bytes = size(out) * size(in / Matrix::group) * 2, bytes = size(out) * matrix_.row_bytes();
    matrix_.count = static_cast<int>(std::max<std::size_t>(1, cold_bytes / (bytes + 2 * scale_bytes)));
    weight_ = random_bytes(bytes * size(matrix_.count) + 1);
    const std::vector<std::uint16_t> halves(scale_bytes / 2 * size(matrix_.count), 0x3c23);  // 0.01 in bf16
    scales_.resize(2 * halves.size() + 1);
    std::memcpy(scales_.data() + 1, halves.data(), 2 * halves.size());
    matrix_.weight = weight_.data() + 1;  // at an odd address, as real shards have them
    matrix_.scales = matrix_.biases = scales_.data() + 1;
    bytes_ = bytes + 2 * scale_bytes;
  }
  Matrix next() { return matrix_.expert(turn_++ % matrix_.count); }
  double bytes() const { return static_cast<double>(bytes_); }

 private:
  Matrix matrix_;
  std::vector<std::byte> weight_, scales_;
  std::size_t bytes_;
  int turn_ = 0;
};

class Activations {
 public:
  Activations(int rows, int cols)
      : x(normal_floats(size(rows) * size(cols))),
        high_(x.size()),
        low_(x.size()),
        natural_(size(cols)),
        scales_(4 * size(rows) * size(cols / 64)) {
    const std::size_t groups = scales_.size() / 4;
    many = {rows,
            cols,
            high_.data(),
            low_.data(),
            scales_.data(),
            scales_.data() + groups,
            scales_.data() + 2 * groups,
            scales_.data() + 3 * groups};
    kernel->matrix.quantize_rows(x.data(), rows, cols, &many, 0);
    one = {cols, natural_.data(), high_.data(), low_.data(), scales_.data(), scales_.data() + groups};
  }
  std::vector<float> x;
  Rows16 many;
  Row16 one;  // shares the planes: quantize16 before its use

 private:
  std::vector<std::int8_t> high_, low_;
  std::vector<std::int16_t> natural_;
  std::vector<float> scales_;
};

void rate(benchmark::State& state, const char* name, double per_iteration) {
  state.counters[name] = benchmark::Counter(per_iteration * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

// ---- matrices

void multiply_few(benchmark::State& state, Matrix::Storage storage, int out, int in, int tokens) {
  ColdMatrices w(storage, out, in);
  Activations x(1, in);
  kernel->matrix.quantize16(x.x.data(), &x.one);
  std::vector<float> y(size(tokens) * size(out));
  const std::vector<int> same(size(tokens));  // one row as often
  for ([[maybe_unused]] auto _ : state) {
    kernel->matrix.multiply16(w.next(), 0, out, &x.one, same.data(), tokens, y.data(), out);
    benchmark::ClobberMemory();
  }
  rate(state, "GB/s", w.bytes());
  rate(state, "GMAC/s", static_cast<double>(tokens) * out * in);
}

void multiply_many(benchmark::State& state, Matrix::Storage storage, Planes planes, int out, int in, int tokens) {
  ColdMatrices w(storage, out, in);
  const Activations x(tokens, in);
  std::vector<float> y(size(tokens) * size(out));
  for ([[maybe_unused]] auto _ : state) {
    kernel->matrix.multiply_rows(w.next(), 0, out, x.many, planes, nullptr, tokens, y.data(), out);
    benchmark::ClobberMemory();
  }
  rate(state, "GMAC/s", static_cast<double>(tokens) * out * in);
  rate(state, "GB/s", w.bytes());
}

void multiply_exact(benchmark::State& state, int out, int in, int tokens) {
  ColdMatrices w(Matrix::Storage::q8, out, in);
  const Activations x(tokens, in);
  std::vector<float> y(size(tokens) * size(out)), scratch(kernel->matrix.f32_scratch(in) + 16);
  void* aligned = scratch.data();
  std::size_t room = scratch.size() * sizeof(float);
  std::align(64, room - 64, aligned, room);
  for ([[maybe_unused]] auto _ : state) {
    kernel->matrix.multiply_f32(w.next(), 0, out, x.x.data(), in, nullptr, tokens,
                                tokens > 3 ? Additions::by_tile : Additions::along_rows, y.data(), out,
                                static_cast<float*>(aligned));
    benchmark::ClobberMemory();
  }
  rate(state, "GMAC/s", static_cast<double>(tokens) * out * in);
}

void quantize_rows(benchmark::State& state) {
  Activations x(64, hidden);
  for ([[maybe_unused]] auto _ : state) {
    kernel->matrix.quantize_rows(x.x.data(), 64, hidden, &x.many, 0);
    benchmark::ClobberMemory();
  }
  rate(state, "GB/s", 64.0 * hidden * 4);
}

// ---- vectors

void rms_norm(benchmark::State& state) {
  const std::vector<float> x = normal_floats(16 * hidden), w = normal_floats(hidden);
  std::vector<float> out(x.size());
  for ([[maybe_unused]] auto _ : state) {
    kernel->vector.rms_norm(x.data(), hidden, w.data(), 16, hidden, 1e-6f, out.data(), hidden);
    benchmark::ClobberMemory();
  }
  rate(state, "GB/s", 16.0 * hidden * 8);
}

void silu_multiply(benchmark::State& state) {
  const std::vector<float> gate = normal_floats(16 * inner), up = normal_floats(16 * inner);
  std::vector<float> out(gate.size());
  for ([[maybe_unused]] auto _ : state) {
    kernel->vector.silu_multiply(gate.data(), up.data(), out.data(), out.size());
    benchmark::ClobberMemory();
  }
  rate(state, "GB/s", 16.0 * inner * 12);
}

// ---- delta net: heads of 128 x 128

void delta_step(benchmark::State& state) {
  constexpr int dim = 128, heads = 32;
  std::vector<float> s(size(heads) * dim * dim);
  const std::vector<float> qkv = normal_floats(3 * dim);
  std::vector<float> out(dim);
  for ([[maybe_unused]] auto _ : state) {
    for (int head = 0; head < heads; ++head)
      kernel->delta.step(s.data() + size(head) * dim * dim, qkv.data(), qkv.data() + dim, qkv.data() + 2 * dim, 0.9f,
                         0.01f, dim, dim, out.data());
    benchmark::ClobberMemory();
  }
  rate(state, "GB/s", 8.0 * heads * dim * dim);
}

void delta_chunk(benchmark::State& state) {
  constexpr int dim = 128, tokens = 64;
  std::vector<float> s(dim * dim), qkv = normal_floats(3 * dim * tokens), out(dim * tokens);
  for (float& v : qkv) v *= 0.09f;
  const std::vector<float> log_g(tokens, -0.1f), beta(tokens, 0.5f);
  std::vector<float> scratch(kernel->delta.chunk_scratch(dim, dim) + 16);
  for ([[maybe_unused]] auto _ : state) {
    kernel->delta.chunk(s.data(), qkv.data(), qkv.data() + dim * tokens, dim, qkv.data() + 2 * dim * tokens, dim,
                        log_g.data(), beta.data(), tokens, dim, dim, out.data(), dim, scratch.data());
    benchmark::ClobberMemory();
  }
  // K K^T and Q K^T below the diagonal, K S, Q S, the substitution, P V, the update.
  rate(state, "GMAC/s", tokens * (2.0 * tokens / 2 * dim + 2.0 * dim * dim + 2.0 * tokens / 2 * dim + 1.0 * dim * dim));
}

// ---- cache

void rotate(benchmark::State& state) {
  std::vector<float> x = normal_floats(64 * head_dim);
  const std::vector<float> signs = codec::rotation_signs(0, 3, 0, head_dim);
  for ([[maybe_unused]] auto _ : state) {
    kernel->attention.rotate(x.data(), head_dim, 64, signs.data(), head_dim);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(64 * state.iterations());
}

/// n vectors at once: one as a decode step has them, 64 as a prompt does.
void encode(benchmark::State& state, const char* format, int n) {
  const codec::SideCodec codec = codec::side_codec(KvFormat::parse(format).k, head_dim);
  const std::vector<float> x = normal_floats(size(n) * head_dim);
  std::vector<std::byte> codes(size(n) * codec.code_bytes), scalars(size(n) * codec.scalar_bytes + 1);
  for ([[maybe_unused]] auto _ : state) {
    kernel->attention.encode(codec, x.data(), head_dim, n, codes.data(), scalars.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(n * state.iterations());
}

struct EncodedVectors {
  codec::SideCodec codec;
  std::vector<std::byte> codes, scalars;
  EncodedVectors(const SideFormat& format, int n)
      : codec(codec::side_codec(format, head_dim)),
        codes(size(n) * codec.code_bytes),
        scalars(size(n) * codec.scalar_bytes + 1) {
    const std::vector<float> x = normal_floats(size(n) * head_dim);
    kernel->attention.encode(codec, x.data(), head_dim, n, codes.data(), scalars.data());
  }
  const std::byte* codes_at(int i) const { return codes.data() + size(i) * codec.code_bytes; }
  const std::byte* scalars_at(int i) const { return scalars.data() + size(i) * codec.scalar_bytes; }
};

void decode(benchmark::State& state, const char* format) {
  const EncodedVectors vectors(KvFormat::parse(format).k, 64);
  std::vector<float> out(64 * size(vectors.codec.space()));
  for ([[maybe_unused]] auto _ : state) {
    kernel->attention.decode(vectors.codec, vectors.codes.data(), vectors.scalars.data(), 64, out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(64 * state.iterations());
}

/// One block of queries and one KV head over `keys` keys, as Forward::attend_block goes through them.
void attend(benchmark::State& state, const char* format, int queries, int keys) {
  constexpr int tile = 64;
  const KvFormat kv = KvFormat::parse(format);
  const EncodedVectors k(kv.k, keys), v(kv.v, keys);
  const auto& kernels = kernel->attention;
  const bool packed_keys = kernels.packed_keys(k.codec), packed_values = kernels.packed_values(v.codec);
  std::vector<float> query = normal_floats(size(queries) * head_dim), maximum(size(queries)), sum(size(queries)),
                     output(query.size()), scores(size(queries) * tile), tile_rows(tile * head_dim),
                     scale(query.size());
  for (float& q : query) q *= 1.0f / 16;
  std::vector<std::int32_t> sums(query.size());
  std::vector<std::byte> memory(kernels.packed_scratch(queries, head_dim) + 2 * query.size() + 128);
  void* scratch = memory.data();
  std::size_t room = memory.size();
  std::align(64, 1, scratch, room);
  auto* packed = static_cast<std::byte*>(scratch) + (2 * query.size() + 63) / 64 * 64;
  Queries8 queries8{queries, 0, static_cast<std::byte*>(scratch), scale.data(), sums.data()};
  for ([[maybe_unused]] auto _ : state) {
    std::fill(maximum.begin(), maximum.end(), -HUGE_VALF);
    std::fill(sum.begin(), sum.end(), 0.0f);
    std::fill(output.begin(), output.end(), 0.0f);
    AttentionState attention{queries, head_dim, query.data(), maximum.data(), sum.data(), output.data()};
    if (packed_keys) kernels.quantize_queries(k.codec, query.data(), queries, &queries8);
    for (int at = 0; at < keys; at += tile) {
      const int n = std::min(tile, keys - at);
      const std::vector<int> visible(size(queries), n);
      if (packed_keys) {
        kernels.packed_scores(k.codec, k.codes_at(at), k.scalars_at(at), n, queries8, visible.data(), scores.data(),
                              packed);
      } else {
        kernels.decode(k.codec, k.codes_at(at), k.scalars_at(at), n, tile_rows.data());
        kernels.scores(attention, tile_rows.data(), n, visible.data(), scores.data());
      }
      kernels.weigh(attention, n, visible.data(), scores.data());
      if (packed_values) {
        kernels.add_packed_values(v.codec, v.codes_at(at), v.scalars_at(at), n, attention, visible.data(),
                                  scores.data(), packed);
      } else {
        kernels.decode(v.codec, v.codes_at(at), v.scalars_at(at), n, tile_rows.data());
        kernels.add_values(attention, tile_rows.data(), n, visible.data(), scores.data());
      }
    }
    benchmark::ClobberMemory();
  }
  rate(state, "GB/s", static_cast<double>(keys) * static_cast<double>(k.codec.vector_bytes() + v.codec.vector_bytes()));
}

void add_benchmarks() {
  using Storage = Matrix::Storage;
  const auto add = [](const std::string& name, auto run) { benchmark::RegisterBenchmark(name.c_str(), run); };
  for (const auto& [storage, name] : {std::pair{Storage::q4, "q4"}, std::pair{Storage::q8, "q8"}}) {
    for (const auto& [out, in] : {std::pair{8192, hidden}, std::pair{inner, hidden}, std::pair{hidden, inner}})
      for (const int tokens : {1, 4, 16})
        add("multiply16/" + std::string(name) + "/" + std::to_string(out) + "x" + std::to_string(in) +
                "/tokens:" + std::to_string(tokens),
            [=, s = storage, o = out, i = in](benchmark::State& state) { multiply_few(state, s, o, i, tokens); });
    for (const auto& [planes, which] : {std::pair{Planes::both, "both"}, std::pair{Planes::high, "high"}})
      for (const int tokens : {16, 64, 512})
        add("multiply_rows/" + std::string(name) + "/" + which + "/512x2048/tokens:" + std::to_string(tokens),
            [=, s = storage, p = planes](benchmark::State& state) {
              multiply_many(state, s, p, inner, hidden, tokens);
            });
  }
  add("multiply_rows/q4/both/2048x512/tokens:64",
      [](benchmark::State& state) { multiply_many(state, Storage::q4, Planes::both, hidden, inner, 64); });
  add("multiply_rows/q4/both/2048x4096/tokens:512",
      [](benchmark::State& state) { multiply_many(state, Storage::q4, Planes::both, hidden, query_dim, 512); });
  for (const int tokens : {1, 512})
    add("multiply_f32/router/256x2048/tokens:" + std::to_string(tokens),
        [=](benchmark::State& state) { multiply_exact(state, 256, hidden, tokens); });
  add("quantize_rows/2048", quantize_rows);
  add("rms_norm/2048", rms_norm);
  add("silu_multiply", silu_multiply);
  add("delta_step/32_heads", delta_step);
  add("delta_chunk/64_tokens", delta_chunk);
  add("rotate/256", rotate);
  for (const char* format : {"baseline", "mlx_quant", "rotated_quant", "turboquant", "turboquant:bits=3",
                             "turboquant:bits=2", "trellis", "trellis:bits=3", "trellis:bits=2"}) {
    const std::string name(format);
    for (const int n : {1, 64})
      add("encode/" + name + "/vectors:" + std::to_string(n),
          [=](benchmark::State& state) { encode(state, format, n); });
    add("decode/" + name, [=](benchmark::State& state) { decode(state, format); });
    for (const int queries : {group, 64})
      add("attend/" + name + "/queries:" + std::to_string(queries) + "/keys:16384",
          [=](benchmark::State& state) { attend(state, format, queries, 16384); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string isa;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
      isa = argv[++i];
    else
      argv[kept++] = argv[i];
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  try {
    kernel = &kernels(isa);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel-benchmarks: %s\n", error.what());
    return 2;
  }
  benchmark::AddCustomContext("isa", kernel->isa);
  add_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}

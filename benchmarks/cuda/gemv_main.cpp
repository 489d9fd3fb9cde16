// gemv-cuda: products of 4-bit weights in MLX's layout with one vector on an NVIDIA card, the sizes of the 35B model.
//   build/release/bin/gemv-cuda [--check] [--output FILE.json] [--trials N]
// First compared with products in double, then timed over weights that the cache of the card cannot hold.
#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "base/float16.h"
#include "cuda/card.h"
#include "cuda/logits.h"
#include "runtime/cuda/kernels/gemv.h"

namespace {

using namespace tqkv;
using namespace tqkv::cuda;

struct Size {
  const char* name;
  int rows, in;
  bool norm;
};
constexpr Size sizes[] = {{"qkv, z, a, b of a delta layer", 12352, 2048, true},
                          {"queries, gates, keys, values", 9216, 2048, true},
                          {"out", 2048, 4096, false},
                          {"router and shared gate, up", 1280, 2048, true},
                          {"head", 248320, 2048, true}};

/// The largest error over the root of the mean square of the results.
double error_of(int rows, int in, bool with_norm) {
  std::mt19937 random(static_cast<unsigned>(rows + in));
  std::normal_distribution<float> normal;
  const auto all = static_cast<std::size_t>(rows), columns = static_cast<std::size_t>(in);
  std::vector<std::uint32_t> codes(all * columns / 8);
  std::vector<std::uint16_t> scales(all * columns / weight_group), biases(scales.size());
  std::vector<float> x(columns), norm(columns);
  for (auto& word : codes) word = static_cast<std::uint32_t>(random());
  for (auto& scale : scales) scale = f32_to_bf16(0.01f * normal(random));
  for (auto& bias : biases) bias = f32_to_bf16(0.05f * normal(random));
  for (float& value : x) value = normal(random) * 3.0f;
  for (float& value : norm) value = 1.0f + 0.1f * normal(random);
  x[in > 100 ? 100 : 0] = 200.0f;
  const Memory on_codes = on_card(codes), on_scales = on_card(scales), on_biases = on_card(biases), on_x = on_card(x),
               on_norm = on_card(norm), out = allocate(all * sizeof(float));
  require(cudaMemset(out.get(), 0xff, all * sizeof(float)), "poison");
  const QuantizedRows w{static_cast<const std::uint32_t*>(on_codes.get()),
                        static_cast<const std::uint16_t*>(on_scales.get()),
                        static_cast<const std::uint16_t*>(on_biases.get()), rows, in};
  if (!multiply(w, static_cast<const float*>(on_x.get()),
                with_norm ? static_cast<const float*>(on_norm.get()) : nullptr, 1e-6f, static_cast<float*>(out.get()),
                7, nullptr))
    throw Failure("there is no such kernel");
  require(cudaDeviceSynchronize(), "a kernel");
  std::vector<float> found(all);
  require(cudaMemcpy(found.data(), out.get(), all * sizeof(float), cudaMemcpyDeviceToHost), "a copy");
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const double factor = with_norm ? 1.0 / std::sqrt(squares / in + 1e-6) : 1.0;
  double worst = 0, size = 0;
  for (std::size_t row = 0; row < all; ++row) {
    double expected = 0;
    for (std::size_t i = 0; i < columns; ++i) {
      const std::size_t group = (row * columns + i) / weight_group;
      const double code = codes[(row * columns + i) / 8] >> (4 * (i % 8)) & 15u;
      const double value = static_cast<double>(x[i]) * factor * (with_norm ? static_cast<double>(norm[i]) : 1.0);
      expected +=
          (code * static_cast<double>(bf16_to_f32(scales[group])) + static_cast<double>(bf16_to_f32(biases[group]))) *
          value;
    }
    const double apart = std::abs(static_cast<double>(found[row]) - expected);
    worst = std::max(worst, std::isfinite(apart) ? apart : 1e9);
    size += expected * expected;
  }
  return worst / std::sqrt(size / rows);
}

/// Microseconds of one product, and blocks a multiprocessor.
std::pair<double, int> time_of(const Size& size, int trials, Timer& timer) {
  const auto rows = static_cast<std::size_t>(size.rows), in = static_cast<std::size_t>(size.in);
  const std::size_t bytes = rows * (in / 2 + in / weight_group * 4),
                    copies = std::clamp<std::size_t>((std::size_t{640} << 20) / bytes + 1, 2, 4096);
  const Memory codes = allocate(copies * rows * in / 2), sides = allocate(copies * rows * in / weight_group * 4),
               x = allocate(in * 4), norm = allocate(in * 4), out = allocate(rows * 4);
  logits::fill(logits::Keys::turboquant4, codes.get(), copies * rows * in / 2, 1, timer.stream());
  logits::fill(logits::Keys::bf16, sides.get(), copies * rows * in / weight_group * 4, 2, timer.stream());
  for (const Memory* vector : {&x, &norm}) logits::fill(logits::Keys::f32, vector->get(), in * 4, 3, timer.stream());
  std::pair<double, int> best{0, 0};
  for (const int blocks : {1, 2}) {
    const double us = timer.median_us(static_cast<int>(std::clamp<std::size_t>(copies, 8, 64)), trials, [&](int node) {
      const std::size_t copy = static_cast<std::size_t>(node) % copies;
      const auto* scales = static_cast<const std::uint16_t*>(sides.get()) + copy * rows * in / weight_group * 2;
      const QuantizedRows w{static_cast<const std::uint32_t*>(codes.get()) + copy * rows * in / 8, scales,
                            scales + rows * in / weight_group, size.rows, size.in};
      multiply(w, static_cast<const float*>(x.get()), size.norm ? static_cast<const float*>(norm.get()) : nullptr,
               1e-6f, static_cast<float*>(out.get()), blocks * multiprocessors(), timer.stream());
    });
    if (best.second == 0 || us < best.first) best = {us, blocks};
  }
  require(cudaGetLastError(), "a kernel");
  return best;
}

int run(int argc, char** argv) {
  std::string output;
  int trials = 9;
  bool check_only = false;
  CLI::App app("Products of 4-bit weights with one vector on an NVIDIA card");
  app.add_option("--output", output, "Every figure, as JSON");
  app.add_option("--trials", trials, "Trials of a figure; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--check", check_only, "Compare with products in double, and time nothing");
  CLI11_PARSE(app, argc, argv);

  cudaDeviceProp card{};
  require(cudaGetDeviceProperties(&card, 0), "the card");
  nlohmann::json document = {{"schema", 1},
                             {"kind", "products on a card"},
                             {"card", card.name},
                             {"multiprocessors", card.multiProcessorCount},
                             {"trials", trials},
                             {"errors", nlohmann::json::array()},
                             {"rows", nlohmann::json::array()}};
  int wrong = 0;
  for (const int rows : {4, 36, 1284, 2052})
    for (const int in : {1024, 2048, 4096})
      for (const bool norm : {false, true}) {
        const double error = error_of(rows, in, norm);
        document["errors"].push_back({{"rows", rows}, {"in", in}, {"norm", norm}, {"error", error}});
        if (error < 1e-3) continue;
        ++wrong;
        fmt::print(stderr, "{} x {}{}: off by {:.2g}\n", rows, in, norm ? ", normalised" : "", error);
      }
  double worst = 0;
  for (const auto& one : document["errors"]) worst = std::max(worst, one["error"].get<double>());
  fmt::print("{} products against double on {}: {} wrong, the largest error {:.2g}\n", document["errors"].size(),
             card.name, wrong, worst);
  if (wrong > 0) return 1;
  if (check_only) return 0;

  Timer timer;
  const double rate = logits::read_rate(trials, timer);
  document["read_gb_s"] = rate;
  fmt::print("a read reaches {:.0f} GB/s\n\n{:<32} {:>8} {:>6} {:>8} {:>7} {:>6}\n", rate, "weights", "rows", "in",
             "us", "GB/s", "read");
  for (const Size& size : sizes) {
    const auto [us, blocks] = time_of(size, trials, timer);
    const double bytes = static_cast<double>(bytes_of(QuantizedRows{nullptr, nullptr, nullptr, size.rows, size.in}));
    document["rows"].push_back({{"weights", size.name},
                                {"rows", size.rows},
                                {"in", size.in},
                                {"us", us},
                                {"blocks", blocks},
                                {"bytes", bytes}});
    fmt::print("{:<32} {:>8} {:>6} {:>8.2f} {:>7.0f} {:>6.2f}\n", size.name, size.rows, size.in, us, bytes / us / 1e3,
               bytes / us / 1e3 / rate);
  }
  if (!output.empty()) std::ofstream(output) << document.dump(1) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "gemv-cuda: {}\n", error.what());
    return 1;
  }
}

// trellis-levels: trains the level tables of src/codec/trellis/levels.cpp and prints them as they stand there, or
// measures the committed ones. The same figures for any number of threads; all tables take minutes on two cores.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "training.h"

namespace {

using namespace tqkv;
using namespace tqkv::tools;

struct Options {
  std::vector<int> bits{2, 3, 4, 5};
  int states = 0;  // 0: all that there are
  int rounds = 160;
  int vectors = 6000;
  int measured = 40000;
  std::uint64_t seed = 3;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  bool measure = false;
};

Vectors vectors_of(const Options& options, int round, int count) {
  return {options.seed * 1000003u + static_cast<std::uint64_t>(round), count, options.threads};
}

void print_table(int bits, int states, const Rounded& rounded, double distortion) {
  const std::string name = fmt::format("{}_{}", bits, states);
  fmt::print("// {} bits, {} states: distortion {:.6f}\n", bits, states, distortion);
  fmt::print("constexpr float step_{} = {:.9g}f;\nconstexpr std::int8_t codes_{}[] = {{", name,
             static_cast<double>(rounded.step), name);
  for (std::size_t i = 0; i < rounded.codes.size(); ++i)
    fmt::print("{}{}", i ? ", " : "", static_cast<int>(rounded.codes[i]));
  fmt::print("}};\n");
  std::fflush(stdout);
}

void train(const Options& options, int bits, int states) {
  // From 4 bits on plain rounds creep, so that steps are larger, with plain ones at the end.
  const int rounds = options.rounds;
  const double relaxation = bits >= 4 ? 2.5 : 1.5;
  std::vector<float> levels = first_levels(bits, states);
  for (int round = 0; round < rounds; ++round) {
    const bool last = round + 4 > rounds;  // plain, with more vectors, so that little noise is left
    const double distortion =
        train_round(bits, states, vectors_of(options, round, last ? 5 * options.vectors : options.vectors),
                    last ? 1.0 : relaxation, levels);
    if (round % 20 == 0 || last)
      fmt::print(stderr, "{} bits, {} states, round {}: {:.6f}\n", bits, states, round, distortion);
  }
  const Vectors measured = vectors_of(options, rounds, options.measured);
  const Encoded before = encode_vectors(codec::trellis_table_of(bits, states, levels), measured);
  const Rounded rounded = round_levels(levels, before.count);
  const Encoded after = encode_vectors(codec::trellis_table_of(bits, states, rounded.codes, rounded.step), measured);
  fmt::print(stderr, "{} bits, {} states: {:.6f}, rounded to 8 bits {:.6f}\n", bits, states, before.distortion,
             after.distortion);
  print_table(bits, states, rounded, after.distortion);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app{"Trains the level tables of trellis-coded vectors and prints them as C++."};
  app.add_option("--bits", options.bits, "bits of the tables")->check(CLI::Range(2, 5));
  app.add_option("--states", options.states, "one number of states (default: every one)");
  app.add_option("--rounds", options.rounds, "rounds of training")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--vectors", options.vectors, "vectors of 256 channels a round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--measured", options.measured, "vectors that the distortion is measured on")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "of the vectors")->capture_default_str();
  app.add_option("--threads", options.threads, "threads")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--measure", options.measure, "measure the committed tables and train nothing");
  CLI11_PARSE(app, argc, argv);
  for (const int bits : options.bits) {
    for (const int states : codec::trellis_states(bits)) {
      if (options.states && options.states != states) continue;
      if (options.measure)
        fmt::print(
            "{} bits, {} states: {:.6f}\n", bits, states,
            encode_vectors(codec::trellis_table(bits, states), vectors_of(options, 0, options.measured)).distortion);
      else
        train(options, bits, states);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "trellis-levels: {}\n", error.what());
    return 1;
  }
}

// machine-rates: what this machine gives, for the bounds of measured speeds (docs/performance.md). Prints JSON:
//   read       GB/s over a buffer much larger than the caches, the best of one and four streams a thread
//   int8       GMAC/s of 8-bit dot products: vpdpbusd, vpmaddubsw with a 16-bit addition, sdot, or what the compiler
//   makes f32        GFLOP/s of fused multiply-adds on registers, two operations each
// each on one thread and on all, the arithmetic for every instruction set that the library has kernels for.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Keeps the results of the loops below alive.
std::atomic<std::uint64_t> sink{0};

void keep(const void* vector) {
  std::uint64_t value;
  std::memcpy(&value, vector, sizeof value);
  sink += value;
}

constexpr int kRounds = 20000;  // of one call: some microseconds
constexpr int kBytes = 4096;    // of each operand of the portable dot product

/// One instruction set: a call of int8 makes int8_macs multiplications, one of f32 makes f32_operations operations.
struct Isa {
  const char* name;
  const char* instruction;
  int lanes;  // floats of a vector
  void (*int8)();
  double int8_macs;
  void (*f32)();
  double f32_operations;
};

#if defined(__x86_64__)

// Accumulators enough for a latency of five cycles on two ports. An empty asm makes an operand unknown in every round,
// so that no product can be taken out of the loop.

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void int8_avx512() {
  __m512i sum[16], w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(-5);
  for (auto& s : sum) s = _mm512_setzero_si512();
  for (int i = 0; i < kRounds; ++i) {
    asm("" : "+v"(w), "+v"(x));
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = _mm512_dpbusd_epi32(sum[k], w, x);
  }
  for (int k = 1; k < 16; ++k) sum[0] = _mm512_add_epi32(sum[0], sum[k]);
  keep(&sum[0]);
}

__attribute__((target("avx512f"))) void f32_avx512() {
  __m512 sum[16], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1e-3f);
  for (auto& s : sum) s = _mm512_setzero_ps();
  for (int i = 0; i < kRounds; ++i) {
    asm("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = _mm512_fmadd_ps(a, b, sum[k]);
  }
  for (int k = 1; k < 16; ++k) sum[0] = _mm512_add_ps(sum[0], sum[k]);
  keep(&sum[0]);
}

__attribute__((target("avx2"))) void int8_avx2() {
  __m256i sum[8], w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(-5);
  for (auto& s : sum) s = _mm256_setzero_si256();
  for (int i = 0; i < kRounds; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      asm("" : "+x"(x));
      sum[k] = _mm256_add_epi16(sum[k], _mm256_maddubs_epi16(w, x));
    }
  }
  for (int k = 1; k < 8; ++k) sum[0] = _mm256_add_epi16(sum[0], sum[k]);
  keep(&sum[0]);
}

__attribute__((target("avx2,fma"))) void f32_avx2() {
  __m256 sum[12], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1e-3f);
  for (auto& s : sum) s = _mm256_setzero_ps();
  for (int i = 0; i < kRounds; ++i) {
    asm("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) sum[k] = _mm256_fmadd_ps(a, b, sum[k]);
  }
  for (int k = 1; k < 12; ++k) sum[0] = _mm256_add_ps(sum[0], sum[k]);
  keep(&sum[0]);
}

#elif defined(__aarch64__)

void int8_neon() {
  int32x4_t sum[16];
  int8x16_t w = vdupq_n_s8(3), x = vdupq_n_s8(-5);
  for (auto& s : sum) s = vdupq_n_s32(0);
  for (int i = 0; i < kRounds; ++i) {
    asm("" : "+w"(w), "+w"(x));
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = vdotq_s32(sum[k], w, x);
  }
  for (int k = 1; k < 16; ++k) sum[0] = vaddq_s32(sum[0], sum[k]);
  keep(&sum[0]);
}

void f32_neon() {
  float32x4_t sum[16], a = vdupq_n_f32(0.5f), b = vdupq_n_f32(1e-3f);
  for (auto& s : sum) s = vdupq_n_f32(0);
  for (int i = 0; i < kRounds; ++i) {
    asm("" : "+w"(a), "+w"(b));
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = vfmaq_f32(sum[k], a, b);
  }
  for (int k = 1; k < 16; ++k) sum[0] = vaddq_f32(sum[0], sum[k]);
  keep(&sum[0]);
}

#endif

void int8_portable() {
  static const std::vector<std::uint8_t> w(kBytes, 3);
  static const std::vector<std::int8_t> x(kBytes, 5);
  std::int32_t sum = 0;
  const std::uint8_t* a = w.data();
  const std::int8_t* b = x.data();
  for (int i = 0; i < kRounds / 100; ++i) {
    asm("" : "+r"(a), "+r"(b) : : "memory");
    for (int k = 0; k < kBytes; ++k) sum += a[k] * b[k];
  }
  sink += static_cast<std::uint64_t>(sum);
}

void f32_portable() {
  float sum[32] = {};
  float a = 0.5f, b = 1e-3f;
  for (int i = 0; i < kRounds; ++i) {
    asm("" : "+r"(a), "+r"(b));
    for (float& s : sum) s += a * b;
    asm("" : "+m"(sum));
  }
  sink += static_cast<std::uint64_t>(sum[0]);
}

std::vector<Isa> available() {
  std::vector<Isa> isas;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vnni"))
    isas.push_back(
        {"avx512", "vpdpbusd, 512 bits", 16, int8_avx512, 16.0 * 64 * kRounds, f32_avx512, 2.0 * 16 * 16 * kRounds});
  if (avx2)
    isas.push_back({"avx2", "vpmaddubsw and vpaddw, 256 bits", 8, int8_avx2, 8.0 * 32 * kRounds, f32_avx2,
                    2.0 * 12 * 8 * kRounds});
#elif defined(__aarch64__)
  isas.push_back({"neon", "sdot", 4, int8_neon, 16.0 * 16 * kRounds, f32_neon, 2.0 * 16 * 4 * kRounds});
#endif
  isas.push_back(
      {"portable", "as compiled", 4, int8_portable, 1.0 * kBytes * (kRounds / 100), f32_portable, 2.0 * 32 * kRounds});
  return isas;
}

/// Runs `work(thread)` over and over on `threads` threads for `seconds`; the sum over threads of calls a second.
double calls_per_second(int threads, double seconds, const std::function<void(int)>& work) {
  std::atomic<int> ready{0};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const auto run = [&](int thread) {
    work(thread);  // memory touched, clock raised
    ready.fetch_add(1);
    while (ready.load() < threads) std::this_thread::yield();
    const auto start = Clock::now();
    double elapsed = 0, calls = 0;
    do {
      work(thread);
      ++calls;
      elapsed = seconds_since(start);
    } while (elapsed < seconds);
    rates[static_cast<std::size_t>(thread)] = calls / elapsed;
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (auto& other : others) other.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

double best_of_three(int threads, double seconds, const std::function<void(int)>& work) {
  double best = 0;
  for (int i = 0; i < 3; ++i) best = std::max(best, calls_per_second(threads, seconds, work));
  return best;
}

/// Reads `bytes` (a multiple of 1024) in `streams` equal parts side by side, 256 bytes of each in turn.
template <int streams>
void read(const std::byte* from, std::size_t bytes) {
  const std::size_t part = bytes / streams / 256 * 256;
  std::uint64_t sum[8] = {};
  for (std::size_t at = 0; at < part; at += 256)
    for (std::size_t s = 0; s < streams; ++s) {
      const std::byte* p = from + s * part + at;
      for (std::size_t line = 0; line < 256; line += 64) {
        __builtin_prefetch(p + line + 2048);
        std::uint64_t v[8];
        std::memcpy(v, p + line, sizeof v);
        for (int i = 0; i < 8; ++i) sum[i] |= v[i];
      }
    }
  for (const auto v : sum) sink += v;
}

/// GB/s that `threads` threads read together, each its own part of the buffer.
double read_rate(const std::byte* buffer, std::size_t bytes, int threads, double seconds) {
  const std::size_t part = bytes / static_cast<std::size_t>(threads) / 4096 * 4096;
  const auto own = [&](int thread) { return buffer + static_cast<std::size_t>(thread) * part; };
  const double one = best_of_three(threads, seconds, [&](int thread) { read<1>(own(thread), part); });
  const double four = best_of_three(threads, seconds, [&](int thread) { read<4>(own(thread), part); });
  return std::max(one, four) * static_cast<double>(part) * 1e-9;
}

int fail(const std::string& message) {
  fmt::print(stderr, "machine-rates: {}\n", message);
  return 2;
}

constexpr const char* kHelp =
    "Measures what this machine gives, as JSON: bytes read a second, 8-bit multiply-adds a second and f32 operations "
    "a\n"
    "second, on one thread and on all.\n"
    "Usage: machine-rates [--threads N] [--megabytes N] [--seconds S]\n"
    "  --threads N     all threads (default: every core that this process may use)\n"
    "  --megabytes N   the buffer that is read (default: 1024, or 4 times the last cache; at most an eighth of "
    "memory)\n"
    "  --seconds S     of each measurement (default: 0.15; about 60 of them are made)\n";

}  // namespace

int main(int count, char** arguments) {
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::size_t megabytes = 0;
  double seconds = 0.15;
  for (int i = 1; i < count; ++i) {
    const std::string_view name = arguments[i];
    if (name == "--help" || name == "-h") {
      fmt::print("{}", kHelp);
      return 0;
    }
    if (i + 1 >= count) return fail(fmt::format("'{}' is no option with a value; --help lists them", name));
    const std::string_view value = arguments[++i];
    std::from_chars_result read_to{};
    if (name == "--threads")
      read_to = std::from_chars(value.data(), value.data() + value.size(), threads);
    else if (name == "--megabytes")
      read_to = std::from_chars(value.data(), value.data() + value.size(), megabytes);
    else if (name == "--seconds")
      read_to = {value.data() + value.size(),
                 (seconds = std::atof(arguments[i])) > 0 ? std::errc{} : std::errc::invalid_argument};
    else
      return fail(fmt::format("unknown option '{}'; --help lists them", name));
    if (read_to.ec != std::errc{} || read_to.ptr != value.data() + value.size() || threads < 1 || threads > 4096 ||
        megabytes > 1u << 20 || seconds > 60)
      return fail(fmt::format("{}: '{}' is out of range", name, value));
  }

  std::size_t cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  cache = static_cast<std::size_t>(std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE)));
#endif
  const auto memory =
      static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t bytes =
      megabytes ? megabytes << 20 : std::min(std::max(std::size_t{1} << 30, 4 * cache), memory / 8) >> 20 << 20;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED)
    return fail(fmt::format("no memory for a buffer of {} MiB; --megabytes sets it", bytes >> 20));
#if defined(MADV_HUGEPAGE)
  madvise(mapped, bytes, MADV_HUGEPAGE);
#endif
  auto* buffer = static_cast<std::byte*>(mapped);
  {
    std::vector<std::thread> fillers;  // each part is touched first by a thread of its own
    const std::size_t part = bytes / static_cast<std::size_t>(threads);
    for (int thread = 0; thread < threads; ++thread)
      fillers.emplace_back([=] { std::memset(buffer + static_cast<std::size_t>(thread) * part, 1, part); });
    for (auto& filler : fillers) filler.join();
  }

  const auto pair = [](double one, double all) {
    return fmt::format(R"({{"one_thread": {:.2f}, "all_threads": {:.2f}}})", one, all);
  };
  std::string text = fmt::format(
      "{{\n  \"schema\": 1,\n  \"kind\": \"machine rates\",\n  \"threads\": {},\n"
      "  \"buffer_bytes\": {},\n  \"last_cache_bytes\": {},\n",
      threads, bytes, cache);
  const double alone = read_rate(buffer, bytes, 1, seconds);
  text += fmt::format("  \"read_gb_s\": {},\n  \"isas\": [", pair(alone, read_rate(buffer, bytes, threads, seconds)));
  const char* separator = "\n";
  for (const Isa& isa : available()) {
    const auto rate = [&](void (*work)(), double operations) {
      const auto of = [&](int n) { return best_of_three(n, seconds, [&](int) { work(); }) * operations * 1e-9; };
      const double one = of(1);
      return pair(one, of(threads));
    };
    text += fmt::format("{}    {{\"isa\": \"{}\", \"int8_instruction\": \"{}\", \"f32_lanes\": {},\n", separator,
                        isa.name, isa.instruction, isa.lanes);
    text += fmt::format("     \"int8_gmac_s\": {},\n", rate(isa.int8, isa.int8_macs));
    text += fmt::format("     \"f32_gflop_s\": {}}}", rate(isa.f32, isa.f32_operations));
    separator = ",\n";
  }
  fmt::print("{}\n  ]\n}}\n", text);
  munmap(mapped, bytes);
}

#include "support/reference.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "base/file.h"
#include "base/float16.h"
#include "loaders/safetensors.h"
#include "support/places.h"

namespace tqkv::test {

std::map<std::string, Array> read_arrays(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  std::map<std::string, Array> out;
  for (const auto& entry : parse_safetensors(mapped.bytes(), file.string())) {
    Array array{entry.shape, {}};
    const std::size_t width = size_of(entry.dtype);
    for (std::size_t at = entry.begin; at < entry.end; at += width) {
      const std::byte* p = mapped.bytes().data() + at;
      switch (entry.dtype) {
        case DType::f32:
          array.values.push_back(load<float>(p));
          break;
        case DType::f16:
          array.values.push_back(f16_to_f32(load<std::uint16_t>(p)));
          break;
        case DType::bf16:
          array.values.push_back(bf16_to_f32(load<std::uint16_t>(p)));
          break;
        case DType::i32:
          array.values.push_back(static_cast<float>(load<std::int32_t>(p)));
          break;
        default:
          throw std::runtime_error("unexpected dtype in " + file.string());
      }
    }
    out.emplace(entry.name, std::move(array));
  }
  return out;
}

const std::map<std::string, Array>& pocket_reference() {
  static const auto arrays =
      read_arrays(std::filesystem::path(test::source_dir()) / "tests/golden/pocket-reference.safetensors");
  return arrays;
}

std::filesystem::path pocket_directory() {
  return std::filesystem::path(test::source_dir()) / "models/pocket";
}

Device cpu_device(const std::string& isa, int threads) {
  Device device;
  if (!isa.empty()) device.keys["isa"] = isa;
  if (threads > 0) device.keys["threads"] = std::to_string(threads);
  return device;
}

const Engine& pocket(Precision precision, const std::string& isa, int threads) {
  static std::mutex mutex;
  static std::map<std::tuple<Precision, std::string, int>, std::unique_ptr<Engine>> engines;
  const std::scoped_lock lock(mutex);
  auto& engine = engines[{precision, isa, threads}];
  if (!engine) {
    DeviceOptions options;
    options.precision = precision;
    options.device = cpu_device(isa, threads);
    engine = Engine::load(Checkpoint::open(pocket_directory()), options);
  }
  return *engine;
}

double kl_divergence(std::span<const float> reference, std::span<const float> model) {
  const double p_max = *std::max_element(reference.begin(), reference.end());
  const double q_max = *std::max_element(model.begin(), model.end());
  double p_sum = 0, q_sum = 0;
  for (const float x : reference) p_sum += std::exp(static_cast<double>(x) - p_max);
  for (const float x : model) q_sum += std::exp(static_cast<double>(x) - q_max);
  const double p_norm = p_max + std::log(p_sum), q_norm = q_max + std::log(q_sum);
  double kl = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - p_norm, log_q = static_cast<double>(model[i]) - q_norm;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return kl;
}

int argmax(std::span<const float> logits) {
  return static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

Agreement compare(std::span<const float> reference, std::span<const float> model, int vocab) {
  if (reference.size() != model.size() || reference.empty()) throw std::runtime_error("compare: sizes differ");
  const auto width = static_cast<std::size_t>(vocab);
  std::vector<double> kl;
  int same = 0;
  for (std::size_t at = 0; at < reference.size(); at += width) {
    kl.push_back(kl_divergence(reference.subspan(at, width), model.subspan(at, width)));
    same += argmax(reference.subspan(at, width)) == argmax(model.subspan(at, width));
  }
  Agreement out;
  out.rows = static_cast<int>(kl.size());
  for (const double value : kl) out.mean_kl += value / out.rows;
  std::sort(kl.begin(), kl.end());
  out.median_kl = kl[kl.size() / 2];
  out.p99_kl = kl[kl.size() * 99 / 100];
  out.max_kl = kl.back();
  out.same_top = static_cast<double>(same) / out.rows;
  return out;
}

std::vector<float> last_logits(const Engine& engine, const KvFormat& format, std::span<const int> ids, int last,
                               const SessionOptions& options) {
  SessionOptions own = options;
  if (own.context == 0) own.context = static_cast<int>(ids.size());
  const auto session = engine.open(format, own);
  std::vector<float> out;
  PrefillOptions prefill;
  prefill.first_row = static_cast<int>(ids.size()) - last;
  prefill.rows = [&](int, std::span<const float> row) { out.insert(out.end(), row.begin(), row.end()); };
  session->prefill(ids, prefill);
  return out;
}

std::vector<int> greedy(const Engine& engine, const KvFormat& format, std::span<const int> ids, int count,
                        const SessionOptions& options) {
  SessionOptions own = options;
  if (own.context == 0) own.context = static_cast<int>(ids.size()) + count;
  const auto session = engine.open(format, own);
  std::vector<int> out{argmax(session->prefill(ids))};
  while (static_cast<int>(out.size()) < count) out.push_back(argmax(session->decode(out.back())));
  return out;
}

}  // namespace tqkv::test

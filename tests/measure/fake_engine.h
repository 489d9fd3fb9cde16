// An engine that computes nothing and writes down what it was asked: what a benchmark does can be read from its log.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cache/accounting.h"
#include "tqkv/engine.h"
#include "tqkv/error.h"

namespace tqkv::test {

struct FakeLog {
  std::vector<std::string> events;    // "baseline open", "baseline prefill 0+32", "baseline restore 0" …
  std::vector<std::vector<int>> fed;  // ids of each session since its last restore, when it ends or is restored
  int alive = 0, most_alive = 0;
  std::uint64_t more_bytes = 0;  // that each cache takes on top of what the accounting says
};

class FakeSnapshot final : public Snapshot {
 public:
  explicit FakeSnapshot(int position) : position_(position) {}
  int position() const override { return position_; }
  std::uint64_t bytes() const override { return 0; }

 private:
  int position_;
};

inline float key_of(int token, int id, int head) {
  return static_cast<float>(token) + static_cast<float>(id) * 1e-5f + static_cast<float>(head) * 0.25f;
}

class FakeSession final : public Session {
 public:
  FakeSession(FakeLog& log, const ModelConfig& config, const KvFormat& format, const SessionOptions& options)
      : log_(log), config_(config), format_(format), options_(options) {
    log_.events.push_back(label() + " open");
    log_.most_alive = std::max(log_.most_alive, ++log_.alive);
  }
  ~FakeSession() override {
    log_.events.push_back(label() + " close");
    log_.fed.push_back(ids_);
    --log_.alive;
  }
  std::span<const float> prefill(std::span<const int> ids, const PrefillOptions& options) override {
    log_.events.push_back(label() + " prefill " + std::to_string(position()) + "+" + std::to_string(ids.size()));
    show(ids);
    for (std::size_t row = 0; row < ids.size(); ++row) {
      ids_.push_back(ids[row]);
      if (options.rows) options.rows(static_cast<int>(row), next_logits());
    }
    if (options.progress) options.progress(static_cast<int>(ids.size()));
    return next_logits();
  }
  std::span<const float> decode(int id) override {
    show({&id, 1});
    ids_.push_back(id);
    if (position() > options_.context) throw Error(ErrorKind::input, "the context is full");
    return next_logits();
  }
  int position() const override { return static_cast<int>(ids_.size()); }
  int context() const override { return options_.context; }
  std::unique_ptr<Snapshot> snapshot() const override { return std::make_unique<FakeSnapshot>(position()); }
  void restore(const Snapshot& snapshot) override {
    log_.events.push_back(label() + " restore " + std::to_string(snapshot.position()));
    log_.fed.push_back(ids_);
    ids_.resize(static_cast<std::size_t>(snapshot.position()));
  }
  void observe(Observer* observer) override { observer_ = observer; }
  std::span<const int> ids() const override { return ids_; }
  std::span<const float> logits() const override { return logits_; }
  void save(const std::filesystem::path&, const SavedText&) const override {}
  CacheReport cache() const override {
    CacheReport report;
    report.encode_s = 1e-12 * position();  // far less than anything that is timed
    report.format = format_;
    report.state = options_.state;
    report.tokens = position();
    report.bytes = cache::cache_bytes(config_, format_, position(), options_.state);
    report.bytes.kv_allocated += log_.more_bytes;
    for (int layer = 0; layer < config_.num_layers(); ++layer) {
      if (config_.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
        report.layers.push_back({layer, format_.k, format_.v});
      }
    }
    return report;
  }

 private:
  std::string label() const { return std::string(name(format_.backend)); }
  // The most likely id follows from the ids; a compressed cache likes its neighbour a little as well.
  std::span<const float> next_logits() {
    logits_.assign(static_cast<std::size_t>(config_.vocab_size), 0.0f);
    std::size_t sum = 0;
    for (const int id : ids_) sum = sum * 31 + static_cast<std::size_t>(id);
    logits_[sum % logits_.size()] = 8.0f;
    if (format_.backend != Backend::baseline) logits_[(sum + 1) % logits_.size()] = 7.0f;
    return logits_;
  }

  // Keys and values of the tokens `ids`, which stand at position(): key_of() in every channel, negated
  // in the values.
  void show(std::span<const int> ids) const {
    if (observer_ == nullptr) return;
    std::vector<float> keys, values;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      for (int head = 0; head < config_.num_key_value_heads; ++head)
        keys.insert(keys.end(), static_cast<std::size_t>(config_.head_dim),
                    key_of(position() + static_cast<int>(i), ids[i], head));
    }
    for (const float key : keys) values.push_back(-key);
    for (const LayerCache& layer : cache().layers)
      observer_->keys_values(layer.layer, keys, values, static_cast<int>(ids.size()));
  }

  FakeLog& log_;
  const ModelConfig& config_;
  KvFormat format_;
  SessionOptions options_;
  Observer* observer_ = nullptr;
  std::vector<int> ids_;
  std::vector<float> logits_;
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(const std::string& directory)
      : checkpoint_(Checkpoint::open_without_weights(directory)),
        config_(ModelConfig::parse(*checkpoint_.text("config.json"), "config.json")) {}
  std::unique_ptr<Session> open(const KvFormat& format, const SessionOptions& options) const override {
    return std::make_unique<FakeSession>(log, config_, format, options);
  }
  std::unique_ptr<Session> restore(const SavedSession&, const SessionOptions&) const override { return nullptr; }
  std::unique_ptr<Session> fork(const Session&, const Snapshot&, const SessionOptions&) const override {
    return nullptr;
  }
  void step(std::span<Work> work) const override {
    for (Work& one : work) one.logits = one.session->prefill(one.ids);
  }
  const ModelConfig& config() const override { return config_; }
  const Checkpoint& checkpoint() const override { return checkpoint_; }
  DeviceReport device() const override {
    return {Device::parse("cpu:isa=portable:threads=1"), Precision::fast, {{"cpu", "fake processor"}}};
  }

  mutable FakeLog log;

 private:
  Checkpoint checkpoint_;
  ModelConfig config_;
};

}  // namespace tqkv::test

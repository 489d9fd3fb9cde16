// A listener that keeps all that it is told, and a model to schedule for.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/schedule/scheduler.h"
#include "support/reference.h"
#include "tqkv/model.h"

namespace tqkv::test {

/// The bundled model, loaded once.
inline const Model& served_model() {
  static const Model& model = [&]() -> const Model& {
    static Model own = Model::open(pocket_directory().string());
    own.load({cpu_device({}, 1), Precision::fast, {}});
    return own;
  }();
  return model;
}

class Recording final : public server::Listener {
 public:
  void queued(int place) override { places.push_back(place); }
  void started(int with, int, bool) override { reused = with; }
  void read(int done, int) override { reads.push_back(done); }
  void text(int choice, Part, std::string_view text) override { texts[choice] += text; }
  void chosen(int, const server::TokenChoice& token) override { tokens.push_back(token); }
  void finished(int choice, const GenerateResult& result) override { results[choice] = result; }
  void done() override { ++ends; }
  void failed(const Error& error) override { error_text = error.what(); }
  bool full() const override { return is_full; }

  std::vector<int> places, reads;
  std::map<int, std::string> texts;
  std::map<int, GenerateResult> results;
  std::vector<server::TokenChoice> tokens;
  std::string error_text;
  int reused = -1, ends = 0;
  bool is_full = false;
};

struct Asked {
  std::shared_ptr<server::Job> job;
  std::shared_ptr<Recording> heard;
};

/// A question to the bundled model.
inline Asked ask(const std::string& messages, int max_tokens, std::uint64_t seed = 1, float temperature = 1.0f,
                 int piece = 64) {
  const Model& model = served_model();
  Asked asked{std::make_shared<server::Job>(), std::make_shared<Recording>()};
  asked.job->prompt = encode(model.tokenizer(), model.chat().render({messages, ""}, {}));
  asked.job->format = KvFormat::usual();
  Sampling sampling;
  sampling.temperature = temperature;
  sampling.seed = seed;
  asked.job->options = model.generate_options(sampling);
  asked.job->options.cuts = model.cuts(piece);
  asked.job->options.weights = 0;
  asked.job->options.max_tokens = max_tokens;
  asked.job->listener = asked.heard;
  return asked;
}

inline std::string user(const std::string& text, const std::string& system = "") {
  const std::string first = system.empty() ? "" : R"({"role":"system","content":")" + system + R"("},)";
  return "[" + first + R"({"role":"user","content":")" + text + R"("}])";
}

}  // namespace tqkv::test

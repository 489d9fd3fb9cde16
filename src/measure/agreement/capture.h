// Keys and values of a run as they are before a cache takes them: a sample for figures of codecs, all of them for a
// file.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"
#include "measure/agreement/codec_level.h"
#include "tqkv/engine.h"
#include "tqkv/model_config.h"

namespace tqkv::measure {

class Capture : public Observer {
 public:
  /// Of a session that is fed `ids`. The file is a safetensors file with f32 tensors layers.N.keys and layers.N.values
  /// [tokens, kv heads, head_dim] for each attention layer N, keys with RoPE, and i32 `ids`; it is written as rows
  /// come. An empty path writes none.
  Capture(const ModelConfig& config, std::span<const int> ids, const std::filesystem::path& file);
  void hidden(int, std::span<const float>, int) override {}
  void keys_values(int layer, std::span<const float> keys, std::span<const float> values, int tokens) override;
  /// The file is complete. Throws Error(internal) when tokens are missing.
  void commit();
  /// Up to `sampled_tokens` tokens, evenly spaced, of every layer and head: captured keys, captured values.
  std::vector<CodecInput> inputs() const;

  static constexpr int sampled_tokens = 256;

 private:
  struct Layer {
    int layer = 0, tokens = 0;
    std::uint64_t keys_at = 0, values_at = 0;            // in the file
    std::vector<CodecVectors> key_sample, value_sample;  // by head
  };
  Layer& layer_of(int layer);
  void sample(std::vector<CodecVectors>& heads, std::span<const float> rows, int first) const;

  int total_, heads_, dim_;
  std::vector<Layer> layers_;
  std::unique_ptr<AtomicFile> file_;
};

}  // namespace tqkv::measure

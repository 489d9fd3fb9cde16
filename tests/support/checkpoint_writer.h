// Small random checkpoints in MLX format for tests: any shape that the architecture allows, sane activations, the same
// bytes for the same description on every machine.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "support/temporary_directory.h"

namespace tqkv::test {

/// How names are spelled: "language_model.model.X", "model.language_model.X" or "model.X".
enum class NameStyle { mlx, hugging_face, text_only };

struct TinyModel {
  int vocab = 320;  // below 8192: a tokenizer of single bytes; from there on the pocket model's
  int hidden = 128;
  int layers = 4;
  int interval = 4;  // every interval-th layer is full attention
  int heads = 4, kv_heads = 2, head_dim = 64;
  double rotary = 0.25;
  int linear_key_heads = 2, linear_value_heads = 4, linear_key_dim = 64, linear_value_dim = 64, taps = 4;
  int experts = 4, experts_per_token = 2, moe_intermediate = 64, shared_intermediate = 64;
  int intermediate = 192;  // dense models: experts == 0
  bool tied = false;
  int context = 4096;
  int bits = 4;                            // 4, 8, or 0: not quantized
  std::map<std::string, int> module_bits;  // canonical module name -> 4, 8 or 0; when bits is not 0
  std::string plain_dtype = "BF16";        // of what is not quantized: BF16, F16 or F32
  int shards = 1;                          // more than one: with an index
  bool odd_offsets = false;                // tensor data starts at an odd byte
  NameStyle names = NameStyle::mlx;
  bool extra_tensors = false;  // a vision tower and multi-token prediction, which must be skipped
  bool tokenizer = true;       // tokenizer files and chat template too
  std::uint64_t seed = 1;
};

/// One linear and one full attention layer, without a tokenizer.
inline TinyModel two_layers(int shards = 1) {
  TinyModel model;
  model.layers = model.interval = 2;
  model.tokenizer = false;
  model.shards = shards;
  return model;
}

struct RawTensor {
  std::string name;
  std::string dtype;  // as safetensors spells it
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

/// config.json of `model`.
std::string config_json(const TinyModel& model);
/// Its tensors with the names of its style.
std::vector<RawTensor> make_tensors(const TinyModel& model);
/// One safetensors file.
void write_safetensors(const std::filesystem::path& path, std::span<const RawTensor> tensors, bool odd_offsets = false);
/// One file of any header and data, true or not.
void write_raw_safetensors(const std::filesystem::path& path, std::uint64_t header_length, const std::string& header,
                           std::size_t data_bytes);
/// Shards, with an index when there are several. Returns the names of the shards.
std::vector<std::string> write_shards(const std::filesystem::path& directory, std::span<const RawTensor> tensors,
                                      int shards, bool odd_offsets = false);
/// Everything that a checkpoint holds, in `directory` (created). Returns `directory`.
std::filesystem::path write_checkpoint(const TinyModel& model, const std::filesystem::path& directory);
/// A text file; the parent folder must exist.
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace tqkv::test

// Checkpoint: a directory of config, safetensors shards and tokenizer, mapped read-only. Implemented in src/loaders.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

enum class DType { boolean, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64 };

std::string_view name(DType dtype);  ///< as safetensors spells it: "BF16"
std::size_t size_of(DType dtype);    ///< bytes of one element

/// One tensor as it lies in its mapped shard. `bytes` may start at any address, odd ones too.
struct Tensor {
  DType dtype = DType::u8;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Where `model` lies: a directory, the name `pocket` (the bundled checkpoint: in $TQKV_MODELS_DIR, next to the
/// installed program or in the sources) or `org/name[@revision]` in the local Hugging Face cache. A directory that
/// exists goes before a name of the hub. Throws Error(checkpoint) with the place searched and the command that fetches
/// the files.
std::filesystem::path locate_model(std::string_view model);

class MappedFile;

/// An opened checkpoint; move-only. Tensors of the vision tower, of multi-token prediction and of rotary tables are
/// left out.
class Checkpoint {
 public:
  /// Maps model*.safetensors and what else the index names, and checks every offset, size and count.
  static Checkpoint open(const std::filesystem::path& directory);
  /// Config and tokenizer files only, no weights: enough for `inspect`, `tokenize` and `--print-prompt`.
  static Checkpoint open_without_weights(const std::filesystem::path& directory);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& directory() const { return directory_; }
  /// Text of a file next to the shards ("config.json", "tokenizer.json", …), or nothing when there is none.
  std::optional<std::string> text(std::string_view file) const;

  /// Names are canonical: "language_model.model.layers.0.…" and "language_model.lm_head.…", whatever prefix the file
  /// has.
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;
  /// Throws Error(checkpoint) when it is missing.
  const Tensor& tensor(std::string_view name) const;

  std::uint64_t tensor_bytes() const;  ///< bytes of the text tensors
  std::uint64_t mapped_bytes() const;  ///< bytes of the shards, skipped tensors included

 private:
  Checkpoint() = default;
  std::filesystem::path directory_;
  std::vector<std::unique_ptr<MappedFile>> shards_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace tqkv

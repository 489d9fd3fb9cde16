// The codecs of this engine, composed from operations of MLX: the same bytes as the scalar reference (codec/) but for
// ties of rounding.
#pragma once
#include <cstddef>
#include <vector>

#include "runtime/mlx/mlx.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"

namespace tqkv::mlx {

/// Vectors as they are stored, part by part: [kv heads, tokens, width] each. Behind one another the parts of a vector
/// are its canonical bytes.
using Payload = std::vector<mx::array>;

/// Tokens first..last-1, in the same arrays.
Payload tokens_of(const Payload& payload, int first, int last);

class Codec {
 public:
  /// Throws Error(format) for a kind that this engine does not have.
  Codec(const SideFormat& format, int kv_heads, int dim);
  const SideFormat& format() const { return format_; }
  int kv_heads() const { return kv_heads_; }
  /// x [kv heads, tokens, dim], in the basis of the side.
  Payload encode(const mx::array& x) const;
  /// The inverse, in float32.
  mx::array decode(const Payload& payload) const;
  /// Bytes of a vector.
  std::size_t vector_bytes() const;
  /// Canonical bytes [tokens, kv heads, vector_bytes()], computed.
  mx::array to_bytes(const Payload& payload) const;
  Payload from_bytes(const mx::array& bytes) const;

 private:
  SideFormat format_;
  int kv_heads_;
  std::vector<mx::Dtype> types_;  // of the parts
  std::vector<int> widths_;
};

/// Throws Error(format) that names what this engine stores instead, unless it is `side`.
void check_stored(const SideFormat& side);
/// The same for every side that `format` has in a model. `format` is as stored.
void check_stored(const ModelConfig& config, const KvFormat& format);

}  // namespace tqkv::mlx

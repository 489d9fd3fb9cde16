// The tensors of a session file, from shapes alone: writer and reader go by the same list, so that a reader accepts
// what a writer would have written and nothing else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "loaders/safetensors.h"
#include "tqkv/cache_report.h"
#include "tqkv/device.h"
#include "tqkv/model_config.h"

namespace tqkv::cache {

enum class SessionPart {
  checksums,  ///< U64: of the header, then of every other tensor in the order of the file
  tokens,     ///< I32 [tokens]
  pending,    ///< I32: ids of SavedText
  logits,     ///< F32 [vocab], or [0]
  squares,    ///< F64 [kv heads, head_dim], of a split side
  mean,  ///< F32 [kv heads, head_dim], of coded keys of a format with a mean: their sum, or mean, of the first tokens
  recurrent,    ///< [value heads, value_head_dim, key_head_dim]
  convolution,  ///< [kernel - 1, conv_dim]
  main,   ///< [tokens, kv heads, bytes of a vector], as are the three below; plain ones [tokens, kv heads, head_dim]
  first,  ///< of a split side: tokens 0 to 255
  sink,   ///< tokens 0 to sink - 1
  window  ///< the newest tokens
};

struct SessionTensor {
  SessionPart part = SessionPart::tokens;
  int layer = -1;  ///< index in the model, of the parts of a layer
  bool keys = false;
  SideFormat vectors;   ///< of main, first, sink and window
  int first_token = 0;  ///< and the tokens that they hold, absolute positions
  int tokens = 0;
  NamedShape shape;
  std::size_t offset = 0;  ///< bytes from the start of the data
  std::size_t bytes = 0;

  bool paged() const { return part >= SessionPart::main; }
};

/// All that decides which tensors there are.
struct SessionSize {
  KvFormat format;
  Precision precision = Precision::fast;
  StateType state = StateType::f32;
  int tokens = 0;
  int pending = 0;
  bool logits = false;
};

/// Bytes of the data of a file with these tensors: all but its header.
std::uint64_t session_bytes(const std::vector<SessionTensor>& layout);

/// In the order of the file: checksums first, larger elements before smaller ones, so that all are aligned.
std::vector<SessionTensor> session_layout(const ModelConfig& config, const SessionSize& size);

}  // namespace tqkv::cache

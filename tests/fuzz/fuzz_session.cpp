// A session file of any bytes, as it is and with its checksums made good, for a small model: refused with an
// Error(session), or every tensor lies inside the file and holds what the reader promises, and every vector decodes.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "../support/session_bytes.h"
#include "base/float16.h"
#include "cache/session/reader.h"
#include "codec/side_codec.h"

namespace {

using namespace tqkv;

ModelConfig small_model() {
  ModelConfig config;
  config.vocab_size = 64;
  config.layers = {LayerKind::linear_attention, LayerKind::full_attention};
  config.max_position_embeddings = 4096;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 64;
  config.linear_num_key_heads = 1;
  config.linear_num_value_heads = 1;
  config.linear_key_head_dim = 4;
  config.linear_value_head_dim = 4;
  config.linear_conv_kernel_dim = 3;
  return config;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void check_vectors(const cache::SessionTensor& tensor, std::span<const std::byte> bytes, int head_dim) {
  const codec::SideCodec codec = codec::side_codec(tensor.vectors, head_dim);
  require(bytes.size() % codec.vector_bytes() == 0);
  if (codec.signs > 0) return;  // decoding would need the matrix
  std::vector<float> out(static_cast<std::size_t>(codec.space()));
  for (std::size_t at = 0; at < bytes.size(); at += codec.vector_bytes())
    codec::decode(codec, bytes.data() + at, bytes.data() + at + codec.code_bytes, out);
}

void read(const std::string& file) {
  static const ModelConfig config = small_model();
  try {
    const auto whole = test::bytes_of(file);
    const cache::SessionReader reader(whole, "fuzz");
    const auto layout = reader.layout(config, reader.identity().model);
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const auto bytes = reader.read(config, layout, i);
      require(bytes.size() == layout[i].bytes && bytes.data() >= whole.data() &&
              bytes.data() + bytes.size() <= whole.data() + whole.size());
      if (layout[i].part == cache::SessionPart::tokens) {
        require(bytes.size() == 4 * static_cast<std::size_t>(reader.tokens()));
        for (std::size_t at = 0; at < bytes.size(); at += 4) {
          const auto id = load<std::int32_t>(bytes.data() + at);
          require(id >= 0 && id < config.vocab_size);
        }
      }
      if (layout[i].paged()) check_vectors(layout[i], bytes, config.head_dim);
    }
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::session);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  read(file);
  test::make_good(file);
  read(file);
  return 0;
}

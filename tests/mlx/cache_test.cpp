// Caches of the engine on MLX: the bytes of the scalar codecs, and sessions that the CPU engine goes on with.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "cache/accounting.h"
#include "codec/rotation.h"
#include "codec/side_codec.h"
#include "mlx/support.h"
#include "runtime/mlx/codec.h"
#include "support/failure.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace mx = ::mlx::core;

constexpr int heads = 2, tokens = 64, dim = 256;

// [heads, tokens, dim], the first vector zero.
std::vector<float> vectors() {
  std::vector<float> x(heads * tokens * dim);
  std::uint64_t h = 1;
  for (float& value : x) {
    h = h * 6364136223846793005u + 1442695040888963407u;
    value = (static_cast<float>(h >> 40) / 8388608.0f - 1.0f) * (1.0f + static_cast<float>(h % 7));
  }
  std::fill_n(x.begin(), dim, 0.0f);
  return x;
}

/// Vectors whose bytes differ from those of the scalar codec, and the largest difference of decoded channels.
struct Differences {
  int vectors = 0;
  double decoded = 0;
};

Differences differences(const SideFormat& format) {
  const codec::SideCodec scalar = codec::side_codec(format, dim);
  const tqkv::mlx::Codec own(format, heads, dim);
  CHECK(own.vector_bytes() == scalar.vector_bytes());
  const std::vector<float> x = vectors();
  const tqkv::mlx::Payload payload = own.encode(mx::array(x.begin(), {heads, tokens, dim}, mx::float32));
  const mx::array bytes = own.to_bytes(payload);
  mx::array decoded = mx::contiguous(own.decode(own.from_bytes(bytes)));
  decoded.eval();
  Differences found;
  std::vector<std::byte> expected(scalar.vector_bytes());
  std::vector<float> back(dim);
  for (int head = 0; head < heads; ++head) {
    for (int token = 0; token < tokens; ++token) {
      const auto at = static_cast<std::size_t>((head * tokens + token) * dim);
      codec::encode(scalar, std::span(x).subspan(at, dim), expected.data(), expected.data() + scalar.code_bytes);
      const std::byte* made =
          bytes.data<std::byte>() + static_cast<std::size_t>(token * heads + head) * expected.size();
      found.vectors += std::memcmp(made, expected.data(), expected.size()) != 0 ? 1 : 0;
      codec::decode(scalar, made, made + scalar.code_bytes, back);
      for (std::size_t i = 0; i < back.size(); ++i)
        found.decoded = std::max(
            found.decoded, std::abs(static_cast<double>(back[i]) - static_cast<double>(decoded.data<float>()[at + i])));
    }
  }
  return found;
}

SideFormat side(SideFormat::Kind kind, int bits, int group = 0, KvScalar scalar = KvScalar::norm) {
  SideFormat format;
  format.kind = kind;
  format.bits = bits;
  format.group = group;
  format.scalar = scalar;
  return format;
}

}  // namespace

TEST_CASE("vectors encoded through MLX have the bytes of the scalar codec") {
  int all = 0, different = 0;
  const auto check = [&](const SideFormat& format) {
    CAPTURE(format.describe());
    const Differences found = differences(format);
    all += heads * tokens;
    different += found.vectors;
    CHECK(found.vectors <= 3);  // ties of rounding
    CHECK(found.decoded < 1e-5);
  };
  for (int bits = 2; bits <= 5; ++bits)
    for (const KvScalar scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best})
      check(side(SideFormat::Kind::turboquant, bits, 0, scalar));
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      check(side(SideFormat::Kind::affine, bits, group));
      check(side(SideFormat::Kind::rotated_affine, bits, group));
    }
  }
  check(side(SideFormat::Kind::plain, 16));
  check(side(SideFormat::Kind::plain, 32));
  MESSAGE(different << " of " << all << " vectors differ, by ties");
  CHECK(different * 500 < all);
}

TEST_CASE("every cache gives on MLX what it gives on the processor, in prompts and decoded tokens") {
  const std::vector<int> doc = ids_of("doc");
  for (const char* text : {"turboquant", "turboquant:bits=3", "turboquant:bits=2:scalar=best", "mlx_quant",
                           "mlx_quant:bits=3:group=32", "rotated_quant", "turboquant:k=4:v=16", "turboquant:k=16:v=5",
                           "turboquant:window=12:sink=4", "turboquant:mean=16", "turboquant:mean=8:window=20",
                           "mlx_quant:mean=8:window=4", "turboquant:layers=3/k=5/v=2"}) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    const auto run = [&](const Engine& engine) {
      const auto session = engine.open(format, options_of(60, 17));
      std::vector<float> logits = copy(session->prefill(std::span(doc).first(50)));
      for (int i = 50; i < 53; ++i) {
        const auto more = session->decode(doc[static_cast<std::size_t>(i)]);
        logits.insert(logits.end(), more.begin(), more.end());
      }
      const CacheReport report = session->cache();
      CHECK(report.bytes.kv_used <= report.bytes.kv_allocated);
      const bool pages = &engine == &on_cpu();
      CHECK(report.bytes.kv_allocated ==
            cache::cache_bytes(engine.config(), report.format, 53, StateType::f32, Precision::f32,
                               pages ? cache::Allocation::pages : cache::Allocation::segments)
                .kv_allocated);
      CHECK(report.layers.size() == 2);
      return logits;
    };
    const Agreement result = compare(run(on_cpu()), run(on_mlx()), 8192);
    CHECK(result.mean_kl < 1e-5);
  }
}

TEST_CASE("a compressed session saved on one engine goes on in the other, both ways") {
  const std::vector<int> doc = ids_of("doc");
  const TemporaryDirectory directory;
  for (const char* text : {"turboquant:window=9:mean=16", "mlx_quant", "rotated_quant:bits=5"}) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    for (const bool from_mlx : {true, false}) {
      CAPTURE(from_mlx);
      const Engine& from = from_mlx ? on_mlx() : on_cpu();
      const Engine& to = from_mlx ? on_cpu() : on_mlx();
      const auto session = from.open(format, options_of(60));
      session->prefill(std::span(doc).first(40));
      session->save(directory / "a.session");
      const auto resumed = to.restore(SavedSession::open(directory / "a.session"), options_of(60));
      double sum = 0;
      for (int i = 40; i < 44; ++i)
        sum += kl_divergence(session->decode(doc[static_cast<std::size_t>(i)]),
                             resumed->decode(doc[static_cast<std::size_t>(i)]));
      CHECK(sum / 4 < 1e-5);
    }
  }
}

TEST_CASE("a compressed session goes back to a snapshot, and its fork shares what it had") {
  const std::vector<int> doc = ids_of("doc");
  const auto session = on_mlx().open(KvFormat::parse("turboquant:window=9:mean=16"), options_of(60));
  session->prefill(std::span(doc).first(30));
  const auto at = session->snapshot();
  const auto expected = copy(session->prefill(std::span(doc).subspan(30, 12)));
  const auto forked = on_mlx().fork(*session, *at, options_of(60));
  session->restore(*at);
  CHECK(copy(session->prefill(std::span(doc).subspan(30, 12))) == expected);
  CHECK(copy(forked->prefill(std::span(doc).subspan(30, 12))) == expected);
}

TEST_CASE("a window lets go of pages, and what is left is what the accounting says") {
  const std::vector<int> doc = ids_of("doc");
  const KvFormat format = KvFormat::parse("turboquant:window=20");
  const auto session = on_mlx().open(format, options_of(320, 300));
  const auto check = [&] {
    CHECK(session->cache().bytes.kv_allocated == cache::cache_bytes(on_mlx().config(), session->cache().format,
                                                                    session->position(), StateType::f32, Precision::f32,
                                                                    cache::Allocation::segments)
                                                     .kv_allocated);
  };
  session->prefill(std::span(doc).first(270));
  check();
  for (int i = 270; i < 280; ++i) session->decode(doc[static_cast<std::size_t>(i)]);
  check();
}

#include "cache/accounting.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "codec/side_codec.h"
#include "support/failure.h"
#include "support/places.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::cache;

namespace {

ModelConfig config_35b() {
  const std::string path = test::source_dir() + "/models/configs/qwen3.5-35b-a3b-4bit.json";
  std::ifstream file(path);
  REQUIRE(file);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return ModelConfig::parse(text, path);
}

CacheBytes bytes(std::string_view format, int tokens, StateType state = StateType::bf16) {
  return cache_bytes(config_35b(), KvFormat::parse(format), tokens, state);
}

// Megabytes of 1,000,000 bytes with two decimals, as the published figures have them.
double megabytes(std::uint64_t count) {
  return static_cast<double>((count + 5000) / 10000) / 100.0;
}

}  // namespace

TEST_CASE("bytes per token of the 35B shape are those of the published table") {
  const struct {
    const char* format;
    std::uint64_t bytes;
    double bits;
  } table[] = {{"baseline", 20480, 16.0},
               {"mlx_quant", 5760, 4.5},
               {"mlx_quant:bits=8", 10880, 8.5},
               {"turboquant:bits=4", 5200, 4.0625},
               {"turboquant:bits=3.5", 4560, 3.5625},
               {"turboquant:bits=3", 3920, 3.0625},
               {"turboquant:bits=2.5", 3280, 2.5625},
               {"turboquant:bits=2", 2640, 2.0625},
               {"turboquant:bits=5", 6480, 5.0625},
               {"turboquant:k=16:v=4", 12840, 10.03125},
               {"rotated_quant", 5760, 4.5},
               {"rotated_quant:bits=8", 10880, 8.5},
               {"mlx_quant:bits=3", 4480, 3.5},
               {"mlx_quant:bits=6:group=128", 8000, 6.25},
               {"rotated_quant:bits=2:group=32", 3840, 3.0},
               {"trellis", 5200, 4.0625},
               {"trellis:bits=3.5", 4560, 3.5625},
               {"trellis:bits=2:states=32", 2640, 2.0625},
               {"turboquant_prod:bits=4", 5280, 4.125},
               {"turboquant_prod:bits=3", 4000, 3.125},
               {"turboquant:split=1:bits=2", 3040, 2.375},
               {"turboquant:split=1:bits=3", 4320, 3.375},
               {"qjl", 3880, 3.03125},
               {"polarquant", 4960, 3.875},
               {"sketch", 5800, 4.53125},
               {"sketch:v=16", 13160, 10.28125}};
  const ModelConfig config = config_35b();
  for (const auto& row : table) {
    CAPTURE(row.format);
    const KvFormat format = KvFormat::parse(row.format);
    CHECK(bytes_per_token(config, format) == row.bytes);
    CHECK((codec::bits_per_value(format.k, 256) + codec::bits_per_value(format.v, 256)) / 2.0 == row.bits);
  }
  CHECK(bytes_per_token(config, KvFormat::parse("baseline").in_f32()) == 40960);
}

TEST_CASE("the recurrent state of the 35B shape is 32,931,840 bytes in bf16 and 64,389,120 in f32") {
  CHECK(bytes("baseline", 0).state() == 32931840);
  CHECK(bytes("baseline", 0, StateType::f32).state() == 64389120);
  CHECK(bytes("baseline", 0).recurrent == 31457280);
  CHECK(bytes("baseline", 0).convolution == 1474560);
  const CacheBytes exact =
      cache_bytes(config_35b(), KvFormat::parse("baseline").in_f32(), 0, StateType::f32, Precision::f32);
  CHECK(exact.convolution == 2949120);
  CHECK(exact.recurrent == 62914560);
  CHECK(bytes("baseline", 0).kv_allocated == 0);
}

TEST_CASE("a prompt of 2048 and 8 more tokens cost what was published, used and allocated") {
  const CacheBytes baseline = bytes("baseline", 2055), mlx = bytes("mlx_quant", 2055),
                   turbo = bytes("turboquant", 2055);
  CHECK(baseline.kv_used == 42086400);
  CHECK(megabytes(baseline.kv_used) == 42.09);
  CHECK(baseline.used() == 75018240);
  CHECK(megabytes(baseline.used()) == 75.02);
  CHECK(baseline.allocated() == 80117760);
  CHECK(megabytes(baseline.allocated()) == 80.12);
  CHECK(mlx.used() == 44768640);
  CHECK(megabytes(mlx.used()) == 44.77);
  CHECK(mlx.allocated() == 46202880);
  CHECK(megabytes(mlx.allocated()) == 46.20);
  CHECK(turbo.used() == 43617840);
  CHECK(megabytes(turbo.used()) == 43.62);
  CHECK(turbo.allocated() == 44912640);
  CHECK(megabytes(turbo.allocated()) == 44.91);
}

TEST_CASE("a prompt of 128 and 8 more tokens cost what was published, used and allocated") {
  CHECK(bytes("baseline", 135).used() == 35696640);
  CHECK(bytes("baseline", 135).allocated() == 38174720);
  CHECK(bytes("mlx_quant", 135).used() == 33709440);
  CHECK(bytes("mlx_quant", 135).allocated() == 34406400);
}

TEST_CASE("options cost what they keep in bf16, used and in whole pages") {
  // A token in bf16 takes 20,480 bytes over all layers and both sides, a page 256 of them.
  const std::uint64_t plain = 20480, coded = 5200;
  CHECK(bytes("turboquant:window=128", 2055).kv_used == 2055 * coded + 128 * plain);
  CHECK(bytes("turboquant:window=128", 2055).kv_allocated == 9 * 256 * coded + 2 * 256 * plain);
  CHECK(bytes("turboquant:window=128", 2040).kv_allocated == 8 * 256 * coded + 256 * plain);
  CHECK(bytes("turboquant:window=128", 100).kv_used == 100 * (coded + plain));
  CHECK(bytes("turboquant:sink=4", 2055).kv_used == 2055 * coded + 4 * plain);
  CHECK(bytes("turboquant:sink=4", 2055).kv_allocated == 9 * 256 * coded + 256 * plain);
  CHECK(bytes("turboquant:sink=4", 3).kv_used == 3 * (coded + plain));
  // The mean itself: 256 channels in f32, for 2 heads in each of 10 layers.
  CHECK(bytes("turboquant:mean=4", 2055).kv_used == 2055 * coded + 4 * plain + 20 * 1024);
  CHECK(bytes("turboquant:mean=4", 2055).kv_allocated == 9 * 256 * coded + 256 * plain + 20 * 1024);
  CHECK(bytes("turboquant:layers=3/k=5,7/v=16", 2055).kv_used == 2055 * (coded + 64 + 764));
  CHECK(bytes("turboquant:v=16:sink=4", 2055).kv_used == 2055 * 12840 + 4 * plain / 2);
  CHECK(bytes("turboquant:boundary=2", 2055).kv_used == 2055 * (6 * coded + 4 * plain) / 10);
  CHECK(bytes("turboquant:boundary=2/8", 2055).kv_used == 2055 * (6 * coded + 4 * 10880) / 10);
}

TEST_CASE("a split side keeps its first page in turboquant of one bit more") {
  const std::uint64_t split = 3040;
  CHECK(bytes("turboquant:split=1:bits=2", 256).kv_used == 256 * std::uint64_t{3920});
  CHECK(bytes("turboquant:split=1:bits=2", 1000).kv_used == 256 * std::uint64_t{3920} + 744 * split);
  CHECK(bytes("turboquant:split=1:bits=2", 1000).kv_allocated == 256 * (3920 + 3 * split));
}

TEST_CASE("a boundary that leaves no layer compressed is refused") {
  const ModelConfig config = config_35b();
  CHECK_NOTHROW(check_format(config, KvFormat::parse("turboquant:boundary=4")));
  CHECK_THROWS_WITH_AS(check_format(config, KvFormat::parse("turboquant:boundary=5")),
                       "[format] cache format `turboquant:k=4:v=4:scalar=corrected:seed=0:table=1:boundary=5/16`: 5 "
                       "layers at each end leave none of the 10 attention layers compressed",
                       Error);
}

TEST_CASE("layers that leave nothing to compress, or a mean without compressed keys, are refused") {
  const std::vector<int> layers{3, 7};
  const auto refusal = [&](const char* format) {
    return test::failure(ErrorKind::format, [&] { check_layers(layers, KvFormat::parse(format)); });
  };
  CHECK(test::contains(refusal("trellis:layers=3,7/k=16/v=16"), "layers leaves nothing to compress"));
  CHECK(test::contains(refusal("trellis:layers=3,7/k=16:mean=64"),
                       "mean=64 is for compressed keys, and layers leaves all of them plain"));
  for (const char* format : {"baseline", "trellis:layers=3/k=16:mean=64", "trellis:k=16:layers=3/k=4:mean=64",
                             "trellis:layers=3/k=16/v=16", "trellis:k=16"})
    CHECK_NOTHROW(check_layers(layers, KvFormat::parse(format)));
}

TEST_CASE("pages hold 256 tokens") {
  CHECK(pages_for(0) == 0);
  CHECK(pages_for(1) == 1);
  CHECK(pages_for(256) == 1);
  CHECK(pages_for(257) == 2);
  CHECK(pages_for(262144) == 1024);
  CHECK(pages_for(std::numeric_limits<int>::max()) == 8388608);
  CHECK_THROWS_AS(pages_for(-1), Error);
}

TEST_CASE("sizes beyond 64 bits are an error, not a small number") {
  ModelConfig config = config_35b();
  const int huge = std::numeric_limits<int>::max();
  config.num_key_value_heads = huge;
  CHECK(cache_bytes(config, KvFormat::parse("baseline"), 1000, StateType::f32).kv_used ==
        1000u * 10240u * std::uint64_t{2147483647});
  CHECK_THROWS_AS(cache_bytes(config, KvFormat::parse("baseline"), huge, StateType::f32), Error);
  config = config_35b();
  config.linear_num_value_heads = config.linear_value_head_dim = huge;
  CHECK_THROWS_AS(cache_bytes(config, KvFormat::parse("baseline"), 1, StateType::f32), Error);
}

TEST_CASE("a format that cannot hold the heads of a model is refused") {
  ModelConfig config = config_35b();
  for (const char* format : {"baseline", "mlx_quant", "turboquant:bits=2", "rotated_quant:k=16"})
    CHECK_NOTHROW(check_format(config, KvFormat::parse(format)));
  config.head_dim = 192;
  CHECK_NOTHROW(check_format(config, KvFormat::parse("mlx_quant")));
  CHECK_THROWS_WITH_AS(
      check_format(config, KvFormat::parse("turboquant:k=16:v=4")),
      "[format] cache format `turboquant:k=16:v=4:scalar=corrected:seed=0:table=1`: turboquant 4 bit, scalar "
      "corrected: "
      "the vectors have 192 channels, expected a power of two from 16 to 1024, for the rotation: choose another format",
      Error);
  config.head_dim = 80;
  CHECK_THROWS_AS(check_format(config, KvFormat::parse("mlx_quant")), Error);
  CHECK_NOTHROW(check_format(config, KvFormat::parse("baseline")));
}

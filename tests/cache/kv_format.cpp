#include "tqkv/kv_format.h"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <set>

#include "tqkv/error.h"

using namespace tqkv;

namespace {

// The message of the error of `kind` that `action` throws; empty when it throws none.
template <class Action>
std::string error_of(ErrorKind kind, const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(name(error.kind()) == name(kind));
    return error.what();
  }
  return {};
}

std::string refusal(std::string_view text) {
  return error_of(ErrorKind::format, [&] { KvFormat::parse(text); });
}

bool says(const std::string& message, std::string_view part) {
  return message.find(part) != std::string::npos;
}

std::string canonical(std::string_view text) {
  return KvFormat::parse(text).canonical();
}

}  // namespace

TEST_CASE("a backend's name alone is its default format") {
  CHECK(canonical("baseline") == "baseline:bits=16");
  CHECK(canonical("mlx_quant") == "mlx_quant:k=4:v=4:group=64");
  CHECK(canonical("turboquant") == "turboquant:k=4:v=4:scalar=corrected:seed=0:table=1");
  CHECK(canonical("rotated_quant") == "rotated_quant:k=4:v=4:group=64:seed=0");
  CHECK(canonical("trellis") == "trellis:k=4:v=4:scalar=corrected:states=4:seed=0:table=1");
  CHECK(canonical("turboquant_prod") == "turboquant_prod:k=4:v=4:projection=gaussian:seed=0:table=1");
  CHECK(canonical("qjl") == "qjl:k=1:v=4:group=32:rows=256:projection=orthogonal:seed=0");
  CHECK(canonical("polarquant") == "polarquant:k=4:v=4:seed=0");
  CHECK(canonical("sketch") == "sketch:k=3:v=4:group=64:seed=0");
  CHECK(all_backends().size() == 9);
  for (const Backend backend : all_backends()) {
    CHECK(KvFormat::of(backend) == KvFormat::parse(name(backend)));
    CHECK(KvFormat::of(backend).backend == backend);
  }
}

TEST_CASE("bits shares them out to keys and values as the table of docs/formats.md says") {
  const struct {
    const char* bits;
    int k, v;
  } table[] = {{"2", 2, 2}, {"2.5", 3, 2}, {"3", 3, 3}, {"3.5", 4, 3}, {"4", 4, 4}, {"5", 5, 5}};
  for (const auto& row : table) {
    const KvFormat format = KvFormat::parse(std::string("turboquant:bits=") + row.bits);
    CHECK(format.k.kind == SideFormat::Kind::turboquant);
    CHECK(format.k.bits == row.k);
    CHECK(format.v.bits == row.v);
  }
  CHECK(canonical("mlx_quant:bits=8") == "mlx_quant:k=8:v=8:group=64");
  CHECK(canonical("rotated_quant:bits=8:seed=7") == "rotated_quant:k=8:v=8:group=64:seed=7");
}

TEST_CASE("k and v set one side, beside bits or alone") {
  CHECK(canonical("turboquant:bits=4:v=2") == "turboquant:k=4:v=2:scalar=corrected:seed=0:table=1");
  CHECK(canonical("turboquant:v=5") == "turboquant:k=4:v=5:scalar=corrected:seed=0:table=1");
  CHECK(canonical("mlx_quant:k=8") == "mlx_quant:k=8:v=4:group=64");
  const KvFormat half = KvFormat::parse("turboquant:k=16:v=3");
  CHECK(half.k == SideFormat{});
  CHECK(half.v.bits == 3);
  CHECK(half.canonical() == "turboquant:k=16:v=3:scalar=corrected:seed=0:table=1");
  const KvFormat affine = KvFormat::parse("rotated_quant:k=8:v=16");
  CHECK(affine.k.kind == SideFormat::Kind::rotated_affine);
  CHECK(affine.v == SideFormat{});
}

TEST_CASE("keys may come in any order, and every scalar and seed survives") {
  const KvFormat format = KvFormat::parse("turboquant:table=1:seed=18446744073709551615:scalar=norm/unbiased:v=2:k=5");
  CHECK(format.seed == ~std::uint64_t{0});
  CHECK(format.k.scalar == KvScalar::norm);
  CHECK(format.v.scalar == KvScalar::unbiased);
  CHECK(format.canonical() == "turboquant:k=5:v=2:scalar=norm/unbiased:seed=18446744073709551615:table=1");
  CHECK(canonical("turboquant:scalar=corrected/corrected") == canonical("turboquant:scalar=corrected"));
}

TEST_CASE("the canonical string of every format there is parses back to it, and no two formats share one") {
  std::set<std::string> strings;
  std::size_t formats = 0;
  const auto check = [&](const KvFormat& format) {
    CHECK(KvFormat::parse(format.canonical()) == format);
    strings.insert(format.canonical());
    ++formats;
  };
  check(KvFormat::parse("baseline"));
  check(KvFormat::parse("baseline").in_f32());
  for (const char* k : {"2", "3", "4", "5", "16"}) {
    for (const char* v : {"2", "3", "4", "5", "16"}) {
      if (std::string(k) == "16" && std::string(v) == "16") continue;
      for (const char* scalar : {"norm", "corrected", "unbiased", "best", "norm/best", "best/norm"}) {
        const bool pair = std::string(scalar).find('/') != std::string::npos;
        const bool plain = std::string(k) == "16" || std::string(v) == "16";
        if (pair && plain) continue;
        const KvFormat format =
            KvFormat::parse(std::string("turboquant:k=") + k + ":v=" + v + ":scalar=" + scalar + ":seed=3");
        check(format);
        if (plain) check(format.in_f32());
      }
    }
  }
  for (const char* backend : {"mlx_quant", "rotated_quant"}) {
    for (const char* sides : {"k=4:v=4", "k=4:v=8", "k=8:v=4", "k=8:v=8", "k=4:v=16", "k=16:v=8", "k=2:v=3", "k=5:v=6",
                              "k=4:v=4:group=32", "k=4:v=4:group=128/64", "k=16:v=3:group=128"})
      check(KvFormat::parse(std::string(backend) + ":" + sides));
  }
  for (const char* text : {"trellis:bits=3.5",
                           "trellis:bits=3.5:states=16",
                           "trellis:bits=3.5:states=16/8",
                           "trellis:k=4:v=16:states=8",
                           "turboquant:split=1",
                           "turboquant:split=1:bits=2",
                           "turboquant:k=2:v=16:split=1",
                           "turboquant_prod:bits=3",
                           "turboquant_prod:projection=orthogonal",
                           "qjl:rows=512",
                           "qjl:v=16",
                           "qjl:projection=gaussian:v=2:group=64",
                           "polarquant:v=16",
                           "polarquant:k=16",
                           "sketch:k=2",
                           "sketch:v=16",
                           "sketch:group=32/64",
                           "turboquant:window=128",
                           "turboquant:sink=4",
                           "turboquant:window=128:sink=4:boundary=1",
                           "turboquant:mean=64",
                           "trellis:mean=64:window=128",
                           "turboquant:mean=4:sink=64",
                           "turboquant:values=trellis",
                           "turboquant:values=trellis:k=5:v=3:scalar=norm/best:states=16",
                           "trellis:values=turboquant:k=4:v=2",
                           "rotated_quant:values=trellis:group=32",
                           "turboquant:values=mlx_quant:group=32:split=1",
                           "mlx_quant:values=rotated_quant:group=64/32:mean=3",
                           "turboquant:layers=3,7/k=8",
                           "turboquant:layers=3,7/k=5,11/v=16:mean=64",
                           "turboquant:k=16:layers=3/k=2",
                           "trellis:states=16:layers=3/k=3",
                           "mlx_quant:boundary=2/8",
                           "qjl:window=1:seed=5"})
    check(KvFormat::parse(text));
  CHECK(strings.size() == formats);
}

TEST_CASE("random formats survive their canonical string with its keys shuffled") {
  const bool holds = rc::check([] {
    const auto any_scalar = [] { return *rc::gen::element("norm", "corrected", "unbiased", "best"); };
    std::vector<std::string> keys{"k=" + std::to_string(*rc::gen::inRange(2, 6)),
                                  "v=" + std::to_string(*rc::gen::inRange(2, 6)),
                                  std::string("scalar=") + any_scalar() + "/" + any_scalar(),
                                  "seed=" + std::to_string(*rc::gen::arbitrary<std::uint64_t>())};
    const auto join = [](const std::vector<std::string>& parts) {
      std::string text = "turboquant";
      for (const std::string& part : parts) text += ":" + part;
      return text;
    };
    const KvFormat format = KvFormat::parse(join(keys));
    for (std::size_t i = keys.size() - 1; i > 0; --i)
      std::swap(keys[i], keys[*rc::gen::inRange(std::size_t{0}, i + 1)]);
    RC_ASSERT(KvFormat::parse(join(keys)) == format);
    RC_ASSERT(KvFormat::parse(format.canonical()) == format);
  });
  CHECK(holds);
}

TEST_CASE("under f32 precision plain sides become f32 and the others stay") {
  CHECK(KvFormat::parse("baseline").in_f32().k.describe() == "f32");
  CHECK(KvFormat::parse("turboquant").in_f32() == KvFormat::parse("turboquant"));
  const KvFormat half = KvFormat::parse("turboquant:k=4:v=16").in_f32();
  CHECK(half.k.describe() == "turboquant 4 bit, scalar corrected");
  CHECK(half.v.describe() == "f32");
}

TEST_CASE("a side is described in words") {
  CHECK(KvFormat::parse("turboquant:bits=3.5:scalar=norm").v.describe() == "turboquant 3 bit, scalar norm");
  CHECK(KvFormat::parse("mlx_quant").k.describe() == "affine 4 bit, group 64");
  CHECK(KvFormat::parse("rotated_quant:bits=8").k.describe() == "rotated affine 8 bit, group 64");
  CHECK(KvFormat::parse("baseline").k.describe() == "bf16");
}

TEST_CASE("an unknown backend is refused with the names there are") {
  for (const char* text : {"", "turbo", "Turboquant", " turboquant", "qjl2", ":k=4", "=", "turboquant,baseline"})
    CHECK(says(
        refusal(text),
        "there are default, baseline, mlx_quant, turboquant, rotated_quant, trellis, turboquant_prod, qjl, polarquant, "
        "sketch"));
}

TEST_CASE("keys that do not exist, are empty or are given twice are refused") {
  CHECK(
      says(refusal("turboquant:depth=4"),
           "turboquant has no key `depth`, it has bits, k, v, values, split, scalar, seed, table, window, sink, mean, "
           "boundary, layers"));
  CHECK(says(refusal("mlx_quant:seed=4"),
             "mlx_quant has no key `seed`, it has bits, k, v, values, group, window, sink, mean, boundary, layers"));
  CHECK(says(refusal("turboquant:group=64"), "no key `group`"));
  CHECK(says(refusal("baseline:k=4"), "baseline has no key `k`"));
  CHECK(says(refusal("turboquant:k=4:v=3:k=4"), "`k` is given twice"));
  for (const char* text :
       {"turboquant:", "turboquant::k=4", "turboquant:k", "turboquant:k=", "turboquant:=4", "turboquant:k=4:"})
    CHECK(says(refusal(text), "where key=value was expected"));
}

TEST_CASE("options are for every backend but baseline, which has nothing to leave in bf16") {
  for (const Backend backend : all_backends()) {
    const std::string text(name(backend));
    if (backend == Backend::baseline) {
      CHECK(says(refusal("baseline:window=1"), "baseline has no key `window`"));
      continue;
    }
    const KvFormat format = KvFormat::parse(text + ":boundary=2:sink=4:window=128");
    CHECK(format.window == 128);
    CHECK(format.sink == 4);
    CHECK(format.boundary == 2);
    CHECK(format.canonical() == KvFormat::parse(text).canonical() + ":window=128:sink=4:boundary=2/16");
    CHECK(KvFormat::parse(text + ":window=0:sink=0:boundary=0") == KvFormat::parse(text));
  }
  CHECK(says(refusal("turboquant:window=-1"), "whole numbers from 0"));
  CHECK(says(refusal("turboquant:sink=1.5"), "whole numbers from 0"));
  CHECK(says(refusal("turboquant:boundary=2/4"), "N/8 for affine of 8 bits"));
}

TEST_CASE("the boundary takes layers at both ends and leaves the others") {
  const KvFormat format = KvFormat::parse("turboquant:bits=3:boundary=2/8");
  for (int layer = 0; layer < 10; ++layer) {
    const bool edge = layer < 2 || layer >= 8;
    CHECK(format.sides(4 * layer + 3, layer, 10).k.describe() ==
          (edge ? "affine 8 bit, group 64" : "turboquant 3 bit, scalar corrected"));
    CHECK(format.sides(4 * layer + 3, layer, 10).v == (edge ? format.edge : format.v));
  }
}

TEST_CASE("default has more bits for keys than for values, a window and a mean, and takes keys of its own") {
  const auto default_is = [](const char* keys, std::string_view expected) {
    CHECK(canonical(std::string("default") + keys) == canonical(expected));
  };
  default_is("", "turboquant:k=5:v=3:values=trellis:mean=64:window=128");
  CHECK(KvFormat::usual() == KvFormat::parse("default"));
  default_is(":bits=4.5", "turboquant:k=5:v=4:values=trellis:mean=64:window=128");
  default_is(":bits=3.5", "trellis:k=4:v=3:mean=64:window=128");
  default_is(":bits=3", "trellis:k=4:v=2:mean=64:window=128");
  default_is(":bits=2.5", "trellis:k=3:v=2:mean=64:window=128");
  default_is(":bits=2", "trellis:k=2:v=2:mean=64:window=128");
  default_is(":k=4:v=4:window=0:mean=0", "trellis");
  default_is(":bits=3:v=3", "trellis:k=4:v=3:mean=64:window=128");
  default_is(":v=16", "turboquant:k=5:v=16:mean=64:window=128");
  default_is(":k=16", "trellis:k=16:v=3:window=128");
  default_is(":seed=7:scalar=norm:states=16:sink=100",
             "turboquant:k=5:v=3:values=trellis:seed=7:scalar=norm:states=16:"
             "sink=100:mean=64:window=128");
  default_is(":layers=3/k=8", "turboquant:k=5:v=3:values=trellis:mean=64:window=128:layers=3/k=8");
  CHECK(says(refusal("default:bits=6"), "bits=6 is not a value of default, there are 2, 2.5, 3, 3.5, 4, 4.5"));
  CHECK(says(refusal("default:group=64"), "default has no key `group`, it has bits, k, v, scalar, states"));
  CHECK(says(refusal("default:bits=4:k=4:v=3"), "bits=4 has no effect"));
  CHECK(says(refusal("default:mean=1e3"), "mean=1e3 is not a value of default"));
  CHECK(says(refusal("default:v=6"), "v=6 is not a value of default, there are 2, 3, 4, 5, 16, 32"));
  default_is(":v=5", "turboquant:k=5:v=5:values=trellis:mean=64:window=128");
  CHECK(parse_formats("default", {{"bits", "3"}}).front() == KvFormat::parse("default:bits=3"));
}

TEST_CASE("a mean keeps the tokens that it is of plain, and says so") {
  const KvFormat format = KvFormat::parse("turboquant:mean=64:window=128");
  CHECK(format.mean == 64);
  CHECK(format.sink == 64);
  CHECK(format.canonical() == "turboquant:k=4:v=4:scalar=corrected:seed=0:table=1:window=128:sink=64:mean=64");
  CHECK(KvFormat::parse("turboquant:mean=64:sink=100").sink == 100);
  CHECK(KvFormat::parse("turboquant:mean=0") == KvFormat::parse("turboquant"));
  CHECK(says(refusal("turboquant:mean=64:sink=4"), "mean=64 keeps the first 64 tokens plain, and sink=4 fewer"));
  CHECK(KvFormat::parse("trellis:k=16:v=4:layers=3,7/k=4:mean=64").mean == 64);  // some keys are compressed
  CHECK(says(refusal("trellis:k=16:v=4:layers=3/v=5:mean=64"), "mean=64 is for compressed keys"));
  CHECK(says(refusal("turboquant:k=16:mean=64"), "mean=64 is for compressed keys, and k=16 leaves them plain"));
  CHECK(says(refusal("turboquant:mean=-3"), "whole numbers from 0"));
  for (const char* backend : {"qjl", "polarquant", "sketch", "turboquant_prod", "baseline"})
    CHECK(says(refusal(std::string(backend) + ":mean=64"), "has no key `mean`"));
}

TEST_CASE("values can have a codec of their own, with its bits, scalar, states and group") {
  const KvFormat format = KvFormat::parse("turboquant:k=5:values=trellis:v=3:states=16");
  CHECK(format.k.describe() == "turboquant 5 bit, scalar corrected");
  CHECK(format.v.describe() == "trellis 3 bit, 16 states, scalar corrected");
  CHECK(format.canonical() == "turboquant:k=5:v=3:values=trellis:scalar=corrected:states=16:seed=0:table=1");
  CHECK(KvFormat::parse("turboquant:values=turboquant") == KvFormat::parse("turboquant"));
  CHECK(KvFormat::parse("turboquant:values=mlx_quant:group=32").v.describe() == "affine 4 bit, group 32");
  CHECK(says(refusal("turboquant:values=qjl"),
             "values=qjl is not a value of turboquant, there are mlx_quant, turboquant, rotated_quant, trellis"));
  CHECK(says(refusal("turboquant:states=8"), "turboquant has no key `states`"));
  CHECK(says(refusal("turboquant:values=trellis:v=16"), "one side is plain"));
  CHECK(says(refusal("turboquant:values=mlx_quant:scalar=norm/best"), "but values have none: name one"));
  CHECK(says(refusal("qjl:values=trellis"), "qjl has no key `values`"));
}

TEST_CASE("layers can have bits of their own") {
  const KvFormat format = KvFormat::parse("turboquant:layers=7,3/k=8/v=5,11/v=16");
  REQUIRE(format.layers.size() == 3);
  CHECK(format.canonical() == "turboquant:k=4:v=4:scalar=corrected:seed=0:table=1:layers=3,7/k=8/v=5,11/v=16");
  CHECK(format.sides(3, 0, 10).k.describe() == "affine 8 bit, group 64");
  CHECK(format.sides(7, 1, 10).v.describe() == "turboquant 5 bit, scalar corrected");
  CHECK(format.sides(11, 2, 10).k == format.k);
  CHECK(format.sides(11, 2, 10).v.describe() == "bf16");
  CHECK(format.sides(15, 3, 10).k == format.k);
  CHECK(says(refusal("turboquant:layers=99/k=4"), "layers=99/k=4 gives layer 99 the bits that it has anyway"));
  CHECK(says(refusal("default:layers=3/k=8,0/v=3"), "gives layer 0 the bits that it has anyway"));
  CHECK(KvFormat::parse("trellis:states=16:layers=3/k=2").sides(3, 0, 1).k.states == 16);
  CHECK(KvFormat::parse("mlx_quant:group=32:layers=3/k=8").sides(3, 0, 1).k.group == 32);
  for (const char* list : {"3", "3,7", "3/k=8,7", "k=8", "3/", "3/k", "3/k=", "3/k=8/k=5", "3/x=8", "-3/k=8", "3/k=7",
                           "3/k=8/v=33", "3/k=8,3/k=5", "3,3/k=8", "1024/k=8", ",3/k=8", "3/k=8,"})
    CHECK_MESSAGE(!refusal(std::string("turboquant:layers=") + list).empty(), list);
  CHECK(says(refusal("turboquant:layers=3,7/k=8,11"), "does not say the bits of layer 11"));
  CHECK(says(refusal("turboquant:layers=3/k=8,3/v=5"), "names layer 3 twice"));
  CHECK(says(refusal("turboquant:boundary=1:layers=3/k=8"), "put all of them into layers"));
  CHECK(says(refusal("turboquant:split=1:layers=3/k=5"), "`turboquant:split=1:layers=3/k=5`: split gives"));
  CHECK(says(refusal("turboquant:split=1:layers=3/k=5"), "so that layers: k=5 has too many: there are 2, 3, 4"));
  CHECK(says(refusal("turboquant:split=1:k=5"), "so that k=5 has too many: there are 2, 3, 4"));
  CHECK(KvFormat::parse("turboquant:split=1:layers=3/k=16/v=3").layers.size() == 1);
}

TEST_CASE("under f32 precision a layer that becomes like the others leaves the list") {
  const KvFormat format = KvFormat::parse("turboquant:k=16:layers=3/k=32").in_f32();
  CHECK(KvFormat::parse(format.canonical()) == format);
}

TEST_CASE("a list of formats keeps the lists of layers in it together") {
  const auto formats = parse_formats("baseline,turboquant:layers=3,7/k=8,11/v=5,trellis");
  REQUIRE(formats.size() == 3);
  CHECK(formats[1].layers.size() == 3);
  CHECK(formats[2] == KvFormat::parse("trellis"));
  CHECK(parse_formats("turboquant", {{"states", "8"}, {"values", "trellis"}}).front() ==
        KvFormat::parse("turboquant:values=trellis:states=8"));
}

TEST_CASE("trellis has its own states for each number of bits, and split its own limits") {
  CHECK(KvFormat::parse("trellis:bits=2").k.states == 16);
  CHECK(KvFormat::parse("trellis:bits=3").k.states == 8);
  CHECK(KvFormat::parse("trellis:bits=3.5").v.states == 8);
  CHECK(says(refusal("trellis:bits=4:states=32"), "with 4 bits, there are 4, 8, 16"));
  CHECK(KvFormat::parse("trellis:bits=5").k.states == 2);
  CHECK(KvFormat::parse("trellis:k=5:v=3:states=8").canonical() ==
        "trellis:k=5:v=3:scalar=corrected:states=8:seed=0:table=1");
  CHECK(says(refusal("trellis:bits=5:states=16"), "with 5 bits, there are 2, 4, 8"));
  CHECK(says(refusal("trellis:bits=6"), "there are 2, 2.5, 3, 3.5, 4, 5"));
  CHECK(says(refusal("turboquant:split=1:k=5"), "k=5 has too many: there are 2, 3, 4"));
  CHECK(says(refusal("turboquant:split=2"), "there are 0, 1"));
  CHECK(says(refusal("qjl:k=16"), "ask for mlx_quant"));
  CHECK(says(refusal("sketch:k=16"), "ask for mlx_quant"));
  CHECK(says(refusal("qjl:rows=100"), "the multiples of 64 up to 1024"));
  CHECK(says(refusal("qjl:projection=normal"), "gaussian, orthogonal"));
}

TEST_CASE("values that do not exist are refused with those that do") {
  CHECK(says(refusal("turboquant:bits=4.5"), "bits=4.5 is not a value of turboquant, there are 2, 2.5, 3, 3.5, 4, 5"));
  CHECK(says(refusal("turboquant:bits=4.0"), "there are 2, 2.5"));
  for (const char* text : {"turboquant:k=6", "turboquant:k=1", "turboquant:k=8", "turboquant:k=-4", "turboquant:k=4x",
                           "turboquant:k= 4", "turboquant:k=+4", "turboquant:k=99999999999999999999"})
    CHECK(says(refusal(text), "there are 2, 3, 4, 5, 16, 32"));
  CHECK(says(refusal("mlx_quant:bits=7"), "there are 2, 3, 4, 5, 6, 8"));
  CHECK(says(refusal("mlx_quant:bits=16"), "there are 2, 3, 4, 5, 6, 8"));
  CHECK(says(refusal("mlx_quant:k=7"), "there are 2, 3, 4, 5, 6, 8, 16, 32"));
  CHECK(says(refusal("mlx_quant:group=16"), "there are 32, 64, 128"));
  CHECK(says(refusal("baseline:bits=8"), "there are 16, 32"));
  CHECK(says(refusal("turboquant:table=2"), "there are 1"));
  for (const char* text :
       {"turboquant:scalar=Best", "turboquant:scalar=/", "turboquant:scalar=norm/", "turboquant:scalar=norm/best/norm"})
    CHECK(says(refusal(text), "norm, corrected, unbiased, best"));
  for (const char* text :
       {"turboquant:seed=-1", "turboquant:seed=1e3", "turboquant:seed=18446744073709551616", "turboquant:seed=0x10"})
    CHECK(says(refusal(text), "whole numbers"));
}

TEST_CASE("formats that contradict themselves are refused") {
  CHECK(says(refusal("turboquant:k=16:v=16"), "nothing to compress: ask for baseline"));
  CHECK(says(refusal("mlx_quant:k=16:v=16"), "nothing to compress"));
  CHECK(says(refusal("rotated_quant:k=16:v=32"), "nothing to compress"));
  CHECK(says(refusal("turboquant:bits=4:k=4:v=3"), "no effect"));
  CHECK(says(refusal("turboquant:k=16:v=4:scalar=norm/best"), "one side is plain"));
}

TEST_CASE("a list of formats is split at its commas") {
  const auto formats = parse_formats("baseline,mlx_quant:bits=8,turboquant:k=4:v=3");
  REQUIRE(formats.size() == 3);
  CHECK(formats[0] == KvFormat::parse("baseline"));
  CHECK(formats[1] == KvFormat::parse("mlx_quant:bits=8"));
  CHECK(formats[2] == KvFormat::parse("turboquant:bits=3.5"));
  for (const char* list : {"", ",", "baseline,", ",baseline", "baseline,,turboquant"})
    CHECK(says(error_of(ErrorKind::usage, [&] { parse_formats(list); }), "an entry is empty"));
  CHECK(says(error_of(ErrorKind::format, [] { parse_formats("baseline,turbo"); }), "there is no backend `turbo`"));
}

TEST_CASE("keys given for a list are set in every entry") {
  const auto formats = parse_formats("turboquant,rotated_quant:seed=9", {{"bits", "4"}, {"seed", "9"}});
  CHECK(formats[0] == KvFormat::parse("turboquant:bits=4:seed=9"));
  CHECK(formats[1] == KvFormat::parse("rotated_quant:bits=4:seed=9"));
  CHECK(parse_formats("turboquant:v=3", {{"bits", "4"}})[0] == KvFormat::parse("turboquant:bits=3.5"));
  CHECK(parse_formats("turboquant", {{"scalar", "norm/best"}, {"k", "5"}})[0] ==
        KvFormat::parse("turboquant:scalar=norm/best:k=5"));
  CHECK(parse_formats("mlx_quant,rotated_quant", {{"group", "64"}}).size() == 2);
}

TEST_CASE("a key given for a list is a usage error where an entry lacks it or has another value") {
  const auto usage = [](const char* list, const std::map<std::string, std::string>& keys) {
    return error_of(ErrorKind::usage, [&] { parse_formats(list, keys); });
  };
  CHECK(says(usage("turboquant,baseline", {{"bits", "4"}}), "`baseline`: baseline has no key `bits`"));
  CHECK(says(usage("baseline", {{"bits", "16"}}), "baseline has no key `bits`"));
  CHECK(says(usage("mlx_quant,turboquant", {{"scalar", "norm"}}), "mlx_quant has no key `scalar`"));
  CHECK(says(usage("turboquant", {{"group", "64"}}), "turboquant has no key `group`"));
  CHECK(says(usage("turboquant", {{"table", "1"}}), "turboquant has no key `table`"));
  CHECK(says(usage("turboquant:bits=3", {{"bits", "4"}}), "it has bits=3, and an option sets bits=4"));
  CHECK(says(usage("turboquant", {{"seed", ""}}), "to nothing"));
  CHECK(parse_formats("turboquant,mlx_quant", {{"window", "4"}})[1].window == 4);
  CHECK(says(error_of(ErrorKind::format, [] { parse_formats("turboquant:k=4:v=3", {{"bits", "2"}}); }), "no effect"));
  CHECK(says(error_of(ErrorKind::format,
                      [] {
                        parse_formats("turboquant,mlx_quant", {{"bits", "3.5"}});
                      }),
             "bits=3.5 is not a value of mlx_quant"));
}

#include "runtime/devices.h"

#include <doctest/doctest.h>

#include <string>

#include "support/failure.h"
#include "support/reference.h"

namespace {

using namespace tqkv;
using test::contains;
using test::failure;

std::string refusal(const std::string& device) {
  return failure(ErrorKind::usage, [&] { kind_of(Device::parse(device)); });
}

TEST_CASE("a device that is not there is refused by name, with those that are") {
  CHECK(kind_of(Device{}).name == "cpu");
  CHECK(contains(refusal("tpu"), "device `tpu`: there is no such device; there are auto, cpu, mlx, cuda"));
  CHECK(contains(refusal("cpu:lanes=2"), "cpu has no key 'lanes'; it has isa, threads"));
  CHECK(contains(refusal("cpu:threads=0"), "threads is a number from 1 to 1024"));
  CHECK(contains(refusal("cpu:threads=1025"), "threads is a number from 1 to 1024"));
  CHECK(contains(refusal("cpu:threads=2x"), "threads is a number from 1 to 1024"));
  CHECK(contains(refusal("cpu:isa=sse"), "isa is one of avx512, avx2, neon, portable"));
  CHECK(contains(refusal("cpu:0"), "there is one cpu"));
}

TEST_CASE("what was built without a device says so, and what to use") {
  for (const DeviceKind* kind : device_kinds()) {
    if (kind->missing().empty()) continue;
    CAPTURE(std::string(kind->name));
    CHECK(contains(refusal(std::string(kind->name)), "use cpu"));
  }
}

TEST_CASE("an engine reports the device that runs, with every key") {
  const Device device = test::pocket(Precision::f32, "portable", 2).device().device;
  CHECK(device.canonical() == "cpu:isa=portable:threads=2");
  CHECK(bits_of(device).canonical() == "cpu:isa=portable");
  CHECK(bits_of(Device::parse("other:0:threads=2")).canonical() == "other:0:threads=2");
}

}  // namespace

#include "tqkv/device.h"

#include <doctest/doctest.h>

#include <string>

#include "support/failure.h"

namespace {

using namespace tqkv;
using test::contains;
using test::failure;

TEST_CASE("a device has one text, whatever the order of its keys") {
  for (const std::string text : {"cpu", "cpu:isa=avx2:threads=2", "mlx", "cuda:0", "cuda:1:graph=off"})
    CHECK(Device::parse(text).canonical() == text);
  CHECK(Device::parse("cpu:threads=2:isa=avx2").canonical() == "cpu:isa=avx2:threads=2");
  CHECK(Device::parse("cuda:00").canonical() == "cuda:0");
  CHECK(Device::parse("cuda:0") != Device::parse("cuda"));
  CHECK(Device::parse("cpu:isa=avx2").value("isa") == "avx2");
  CHECK(Device::parse("cpu:isa=avx2").value("threads").empty());
}

TEST_CASE("a text that is no device is refused, and never printed raw") {
  for (const std::string text : {"", ":", "cpu:", "cpu::isa=avx2", "cpu:isa", "cpu:isa=", "cpu:=avx2", "CPU", "cpu 2",
                                 "cpu:isa=avx2:0", "cpu:0:1", "cpu:-1", "cpu:99999999999", "\x1b[31m"}) {
    CAPTURE(text);
    const std::string message = failure(ErrorKind::usage, [&] { Device::parse(text); });
    CHECK(contains(message, "device `"));
    CHECK(message.find('\x1b') == std::string::npos);
  }
  CHECK(contains(failure(ErrorKind::usage, [] { Device::parse("cpu:a=1:a=2"); }), "'a' is there twice"));
  CHECK(failure(ErrorKind::usage, [] { Device::parse(std::string(5000, 'x')); }).size() < 400);
}

}  // namespace

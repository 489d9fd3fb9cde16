#include "cache/session/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "loaders/tensor_names.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv {

std::string_view name(NextText next) {
  switch (next) {
    case NextText::raw:
      return "raw";
    case NextText::question:
      return "question";
    case NextText::conversation:
      return "conversation";
  }
  return "raw";
}

}  // namespace tqkv

namespace tqkv::cache {
namespace {

constexpr std::string_view file_kind = "tqkv-session";

[[noreturn]] void fail(std::string_view where, const std::string& what) {
  throw Error(ErrorKind::session, fmt::format("{}: {}", where, what));
}

const std::string& field(const Metadata& metadata, const char* key, std::string_view where) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) fail(where, fmt::format("its header does not say its {}: the file is damaged", key));
  return found->second;
}

template <class Value>
Value one_of(const Metadata& metadata, const char* key, std::initializer_list<Value> values, std::string_view where) {
  const std::string& text = field(metadata, key, where);
  for (const Value value : values) {
    if (name(value) == text) return value;
  }
  fail(where, fmt::format("its {} is {}, which this version does not know", key, shown(text)));
}

KvFormat format_of(const std::string& text, std::string_view where) {
  KvFormat format;
  try {
    format = KvFormat::parse(text);
  } catch (const Error&) {
    fail(where, fmt::format("its cache format is {}, which this version does not know", shown(text)));
  }
  if (format.canonical() != text)
    fail(where, fmt::format("its cache format is {}, which is no canonical string", shown(text)));
  return format;
}

bool lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// Files of version 1 are of the CPU, and name its instruction set alone.
Device device_of(const Metadata& metadata, std::string_view where) {
  const bool first_version = field(metadata, "version", where) == "1";
  const std::string& text = field(metadata, first_version ? "isa" : "device", where);
  try {
    return Device::parse(first_version ? "cpu:isa=" + text : text);
  } catch (const Error&) {
    fail(where, fmt::format("its device is {}, which is none", shown(text)));
  }
}

void check_version(const Metadata& metadata, std::string_view where) {
  const auto kind = metadata.find("format");
  if (kind == metadata.end() || kind->second != file_kind)
    fail(where, "is a safetensors file, but no saved session of tqkv");
  const std::string& text = field(metadata, "version", where);
  int version = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (code != std::errc{} || end != text.data() + text.size() || version < 1)
    fail(where, fmt::format("its version is {}, expected a number from 1 on", shown(text)));
  if (version > session_file_version)
    fail(where, fmt::format("is a session file of version {}, and this program reads up to {}: use the tqkv that wrote "
                            "it, or a newer one",
                            version, session_file_version));
}

}  // namespace

Metadata metadata_of(const SessionIdentity& identity, NextText next) {
  return {{"format", std::string(file_kind)},
          {"version", fmt::format("{}", session_file_version)},
          {"tool", fmt::format("tqkv {}", tqkv::version)},
          {"model", identity.model},
          {"kv_format", identity.format.canonical()},
          {"precision", std::string(name(identity.precision))},
          {"state", std::string(name(identity.state))},
          {"device", identity.device.canonical()},
          {"next", std::string(name(next))}};
}

Described read_metadata(const Metadata& metadata, std::string_view where) {
  check_version(metadata, where);
  Described described;
  SessionIdentity& identity = described.identity;
  identity.model = field(metadata, "model", where);
  if (identity.model.size() != 32 || !std::all_of(identity.model.begin(), identity.model.end(), lower_hex))
    fail(where, fmt::format("its model is {}, expected a fingerprint of 32 hexadecimal digits", shown(identity.model)));
  identity.format = format_of(field(metadata, "kv_format", where), where);
  identity.precision = one_of(metadata, "precision", {Precision::fast, Precision::f32}, where);
  identity.state = one_of(metadata, "state", {StateType::f32, StateType::bf16}, where);
  identity.device = device_of(metadata, where);
  described.next = one_of(metadata, "next", {NextText::raw, NextText::question, NextText::conversation}, where);
  return described;
}

}  // namespace tqkv::cache

#include "cache/session/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/float16.h"
#include "cache/accounting.h"
#include "cache/session/values.h"
#include "loaders/tensor_names.h"

namespace tqkv::cache {
namespace {

constexpr std::uint64_t longest_header = 1 << 20;  // a model of a thousand layers takes a fifth
constexpr std::int64_t longest_vector = 1 << 26;   // tokens, pending ids, logits: no sum of them overflows an int

SafetensorsFile parse(std::span<const std::byte> file, const std::string& where) {
  if (file.size() >= 8 && load<std::uint64_t>(file.data()) > longest_header && file.size() > longest_header)
    throw Error(ErrorKind::session,
                fmt::format("{}: its header has more than {} bytes: it is no saved session", where, longest_header));
  return parse_safetensors_file(file, where, ErrorKind::session);
}

}  // namespace

SessionReader::SessionReader(std::span<const std::byte> file, std::string where)
    : file_(file),
      where_(std::move(where)),
      header_(parse(file, where_)),
      described_(read_metadata(header_.metadata, where_)) {
  const SafetensorsEntry* checksums = find("checksums");
  if (!checksums || checksums->dtype != DType::u64 || checksums->shape.size() != 1 ||
      static_cast<std::size_t>(checksums->shape[0]) != header_.entries.size())
    fail("has no checksum for each of its tensors: the file is damaged");
  if (load<std::uint64_t>(file_.data() + checksums->begin) != checksum(file_.first(header_.data)))
    fail("its header was altered, it does not have the checksum that was saved with it");
  tokens_ = length_of("tokens", DType::i32);
  logits_ = length_of("logits", DType::f32) > 0;
  const int pending = length_of("pending", DType::i32);
  text_.next = described_.next;
  const auto id_at = [&](const char* name, int index) {
    return load<std::int32_t>(file_.data() + find(name)->begin +
                              sizeof(std::int32_t) * static_cast<std::size_t>(index));
  };
  for (int i = 0; i < pending; ++i) text_.pending.push_back(id_at("pending", i));
  if (tokens_ > 0) last_id_ = id_at("tokens", tokens_ - 1);
  if (pending > 0) last_id_ = text_.pending.back();
}

void SessionReader::fail(const std::string& what) const {
  throw Error(ErrorKind::session, fmt::format("{}: {}", where_, what));
}

const SafetensorsEntry* SessionReader::find(std::string_view name) const {
  for (const SafetensorsEntry& entry : header_.entries) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

int SessionReader::length_of(std::string_view name, DType dtype) const {
  const SafetensorsEntry* entry = find(name);
  if (!entry || entry->dtype != dtype || entry->shape.size() != 1 || entry->shape[0] > longest_vector)
    fail(fmt::format("tensor {} is not the vector of {} that a session has", name, tqkv::name(dtype)));
  return static_cast<int>(entry->shape[0]);
}

std::vector<SessionTensor> SessionReader::layout(const ModelConfig& config, const std::string& fingerprint) const {
  const SessionIdentity& own = identity();
  if (own.model != fingerprint)
    fail(fmt::format("is a session of another model: its fingerprint is {}, that of this model {}", own.model,
                     fingerprint));
  try {
    check_format(config, own.format);
  } catch (const Error& error) {
    fail(fmt::format("its cache format does not fit the model: {}", error.what()));
  }
  const int pending = static_cast<int>(text_.pending.size());
  if (tokens_ > config.max_position_embeddings || pending > config.max_position_embeddings)
    fail(fmt::format("contains {} tokens and {} more, but the model accepts at most {}", tokens_, pending,
                     config.max_position_embeddings));
  std::vector<SessionTensor> tensors =
      session_layout(config, {own.format, own.precision, own.state, tokens_, pending, logits_});
  if (tensors.size() != header_.entries.size())
    fail(fmt::format("has {} tensors, a session of this model and format has {}", header_.entries.size(),
                     tensors.size()));
  for (const SessionTensor& tensor : tensors) {
    const SafetensorsEntry* entry = find(tensor.shape.name);
    if (!entry) fail(fmt::format("tensor {} is missing", tensor.shape.name));
    if (entry->dtype != tensor.shape.dtype || entry->shape != tensor.shape.shape ||
        entry->begin != header_.data + tensor.offset)
      fail(fmt::format("tensor {} has not the type, the shape or the place that {} tokens of this model take",
                       tensor.shape.name, tokens_));
  }
  const std::size_t end = header_.data + tensors.back().offset + tensors.back().bytes;
  if (file_.size() != end) fail(fmt::format("has {} bytes after its last tensor", file_.size() - end));
  return tensors;
}

void SessionReader::check_values(const ModelConfig& config, const SessionTensor& tensor,
                                 std::span<const std::byte> bytes) const {
  if (const auto problem = problem_of(tensor, bytes, config.head_dim, config.vocab_size))
    fail(fmt::format("tensor {}: {}", tensor.shape.name, *problem));
}

std::span<const std::byte> SessionReader::read(const ModelConfig& config, std::span<const SessionTensor> layout,
                                               std::size_t index, const TakeTokens& take) const {
  const SessionTensor& tensor = layout[index];
  const std::span<const std::byte> bytes = file_.subspan(header_.data + tensor.offset, tensor.bytes);
  if (tensor.part == SessionPart::checksums) return bytes;  // each is looked at with what it is of
  RunningChecksum running;
  if (tensor.paged() && tensor.tokens > 0) {
    const std::size_t row = tensor.bytes / static_cast<std::size_t>(tensor.tokens);
    const int end = tensor.first_token + tensor.tokens;
    for (int token = tensor.first_token; token < end;) {
      const int count = std::min(page_tokens - token % page_tokens, end - token);
      const auto page = bytes.subspan(static_cast<std::size_t>(token - tensor.first_token) * row,
                                      static_cast<std::size_t>(count) * row);
      running.add(page);
      check_values(config, tensor, page);
      if (take) take(token, count, page.data());
      token += count;
    }
  } else {
    running.add(bytes);
    check_values(config, tensor, bytes);
  }
  if (running.take() != load<std::uint64_t>(file_.data() + header_.data + index * sizeof(std::uint64_t)))
    fail(fmt::format("tensor {} was altered, it does not have the checksum that was saved with it", tensor.shape.name));
  return bytes;
}

}  // namespace tqkv::cache

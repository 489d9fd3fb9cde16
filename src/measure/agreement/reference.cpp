#include "measure/agreement/reference.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cmath>
#include <system_error>

#include "base/file.h"
#include "base/float16.h"
#include "base/numbers.h"
#include "measure/figures/kl.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

namespace fs = std::filesystem;

// A row begins with: f64 ln p of the next id, f64 log_sum_exp (f32) or ln p of the top (u16), i32 top, i32 next,
// f32 step (u16), f32 unused.
constexpr std::size_t header_bytes = 32;
constexpr double most_nats = 40;
constexpr double most_code = 65535;

std::size_t row_bytes(int vocab, LogitStorage storage) {
  return header_bytes + static_cast<std::size_t>(vocab) * (storage == LogitStorage::f32 ? 4 : 2);
}

[[noreturn]] void fail(const fs::path& path, std::string_view what, int error) {
  throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, std::generic_category().message(error)));
}

}  // namespace

std::string_view name(LogitStorage storage) {
  return storage == LogitStorage::f32 ? "f32" : "u16";
}

std::uint64_t ReferenceLogits::bytes(int vocab, int rows, LogitStorage storage) {
  return static_cast<std::uint64_t>(row_bytes(vocab, storage)) * static_cast<std::uint64_t>(rows);
}

LogitStorage ReferenceLogits::choose(int vocab, int rows) {
  return bytes(vocab, rows, LogitStorage::f32) <= std::uint64_t{1} << 30 ? LogitStorage::f32 : LogitStorage::u16;
}

ReferenceLogits::ReferenceLogits(const fs::path& path, int vocab, int rows, LogitStorage storage)
    : vocab_(vocab), capacity_(rows), storage_(storage), path_(path), buffer_(row_bytes(vocab, storage)) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const fs::path parent = folder ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::optional<std::uint64_t> free = free_space(parent);
  const std::uint64_t needed = bytes(vocab, rows, storage);
  if (free && *free < needed)
    throw Error(
        ErrorKind::io,
        fmt::format("{}: the reference logits take {} bytes, but only {} are free there: name a file on another "
                    "disk with --logits or give fewer --tokens",
                    parent.string(), grouped(needed), grouped(*free)));
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    if (folder) path_ = path / fmt::format("tqkv-logits-{}-{}", ::getpid(), attempt);
    do descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ >= 0) break;
    const bool taken = folder && errno == EEXIST && attempt < 1000;
    if (!taken) fail(path_, "cannot be created for the reference logits", errno);
  }
  ::unlink(path_.c_str());  // the open descriptor keeps the file
}

ReferenceLogits::~ReferenceLogits() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ReferenceLogits::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path_, "the reference logits cannot be written", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void ReferenceLogits::append(std::span<const float> logits, int next) {
  if (logits.size() != static_cast<std::size_t>(vocab_) || written_ == capacity_ || next < 0 || next >= vocab_)
    throw Error(ErrorKind::internal,
                fmt::format("reference logits: row {} of {} has {} values and is followed by id {}", written_,
                            capacity_, logits.size(), next));
  const int top = argmax(logits);
  const double norm = log_sum_exp(logits);
  std::byte* at = buffer_.data();
  store(at, static_cast<double>(logits[static_cast<std::size_t>(next)]) - norm);
  store(at + 16, static_cast<std::int32_t>(top));
  store(at + 20, static_cast<std::int32_t>(next));
  store(at + 28, 0.0f);
  std::byte* values = at + header_bytes;
  if (storage_ == LogitStorage::f32) {
    store(at + 8, norm);
    store(at + 24, 0.0f);
    std::memcpy(values, logits.data(), logits.size_bytes());
  } else {
    const float largest = logits[static_cast<std::size_t>(top)];
    const float smallest = *std::min_element(logits.begin(), logits.end());
    const double range = std::clamp(static_cast<double>(largest) - static_cast<double>(smallest), 1e-6, most_nats);
    const auto step = static_cast<float>(range / most_code);
    store(at + 8, static_cast<double>(largest) - norm);
    store(at + 24, step);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double below = (static_cast<double>(largest) - static_cast<double>(logits[i])) / static_cast<double>(step);
      store(values + 2 * i, static_cast<std::uint16_t>(std::lround(std::min(below, most_code))));
    }
  }
  write(buffer_);
  ++written_;
}

const ReferenceRow& ReferenceLogits::row(int index) {
  assert(index >= 0 && index < written_);
  std::span<std::byte> rest(buffer_);
  auto offset = static_cast<off_t>(static_cast<std::uint64_t>(index) * buffer_.size());
  while (!rest.empty()) {
    const ssize_t count = ::pread(descriptor_, rest.data(), rest.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(path_, "the reference logits cannot be read", count < 0 ? errno : EIO);
    rest = rest.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
  const std::byte* at = buffer_.data();
  row_.next_log_p = load<double>(at);
  row_.top = load<std::int32_t>(at + 16);
  row_.next = load<std::int32_t>(at + 20);
  row_.log_p.resize(static_cast<std::size_t>(vocab_));
  const std::byte* values = at + header_bytes;
  if (storage_ == LogitStorage::f32) {
    const auto norm = load<double>(at + 8);
    for (std::size_t i = 0; i < row_.log_p.size(); ++i)
      row_.log_p[i] = static_cast<double>(load<float>(values + 4 * i)) - norm;
    return row_;
  }
  const auto top_log_p = load<double>(at + 8);
  const auto step = static_cast<double>(load<float>(at + 24));
  double sum = 0;
  for (std::size_t i = 0; i < row_.log_p.size(); ++i) {
    row_.log_p[i] = top_log_p - step * load<std::uint16_t>(values + 2 * i);
    sum += std::exp(row_.log_p[i]);
  }
  // A probability again: what rounding does to the sum would stand in every KL in first order.
  const double norm = std::log(sum);
  for (double& log_p : row_.log_p) log_p -= norm;
  return row_;
}

}  // namespace tqkv::measure

#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/splitter.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "text/unicode.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv::text {
namespace {

template <auto release>
struct Free {
  template <class T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>>;

constexpr std::size_t longest_pattern = 1 << 14;  // bytes

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// Conservative: every escape and property must be one of a short list, all else must be ASCII.
bool sees_only_classes(std::string_view pattern) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (static_cast<std::uint8_t>(pattern[i]) >= 0x80) return false;
    if (pattern[i] != '\\') continue;
    if (++i == pattern.size()) return false;
    const char c = pattern[i];
    if (c == 'p' || c == 'P') {
      const std::string_view property = pattern.substr(i + 1, 3);
      if (property != "{L}" && property != "{M}" && property != "{N}") return false;
      i += 3;
    } else if (std::string_view("sSrnt").find(c) == std::string_view::npos &&
               ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct Splitter::Code {
  std::unique_ptr<pcre2_code, Free<pcre2_code_free>> code;
  bool jit = false;
};

Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

Splitter::Splitter(std::string pattern, std::string_view where)
    : pattern_(std::move(pattern)), by_class_(sees_only_classes(pattern_)), code_(std::make_unique<Code>()) {
  if (pattern_.empty() || pattern_.size() > longest_pattern) {
    throw Error(ErrorKind::tokenizer, fmt::format("{}: the split pattern has {} bytes, expected 1 to {}", where,
                                                  pattern_.size(), longest_pattern));
  }
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_parens_nest_limit(context.get(), 50);
  int error = 0;
  PCRE2_SIZE at = 0;
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_.data()), pattern_.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, context.get()));
  if (!code_->code) {
    throw Error(ErrorKind::tokenizer, fmt::format("{}: the split pattern cannot be compiled: {} at its byte {}", where,
                                                  message_of(error), at));
  }
  code_->jit = pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE) == 0;
}

std::vector<std::size_t> Splitter::ends(std::string_view text) const {
  std::vector<std::size_t> result;
  if (text.empty()) return result;
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<std::uint8_t>(c) < 0x80; });
  std::string shown;
  if (by_class_ && !ascii) {
    shown = stand_ins(text);
    text = shown;
  }
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const MatchData data(pcre2_match_data_create_from_pattern(code_->code.get(), nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  // Backtracking out of one long run of blanks takes a step a blank; a pattern that needs more than a few is hostile.
  const std::size_t steps = std::min<std::size_t>(10'000'000 + 4 * text.size(), UINT32_MAX);
  pcre2_set_match_limit(context.get(), static_cast<std::uint32_t>(steps));
  pcre2_set_heap_limit(context.get(), 256 * 1024);  // KiB
  JitStack stack;
  if (code_->jit) {
    stack.reset(pcre2_jit_stack_create(32 * 1024, 64 * 1024 * 1024, nullptr));
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
  const auto match = [&](std::size_t from, std::uint32_t options) {
    return pcre2_match(code_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | options, data.get(),
                       context.get());
  };
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data.get());
  std::size_t done = 0;  // end of the last piece
  for (std::size_t from = 0; from < text.size();) {
    int status = match(from, 0);
    if (status == PCRE2_ERROR_JIT_STACKLIMIT) status = match(from, PCRE2_NO_JIT);
    if (status == PCRE2_ERROR_NOMATCH) break;
    if (status < 0) {
      throw Error(ErrorKind::tokenizer, fmt::format("the split pattern gave up at byte {} of a text of {}: {}", from,
                                                    text.size(), message_of(status)));
    }
    const std::size_t begin = found[0], end = found[1];
    if (end <= begin || begin < from) {  // empty, or moved about by \K: no piece
      from += next_character(text, from).length;
      continue;
    }
    if (begin > done) result.push_back(begin);
    result.push_back(end);
    done = from = end;
  }
  if (done < text.size()) result.push_back(text.size());
  return result;
}

}  // namespace tqkv::text

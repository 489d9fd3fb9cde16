#include "measure/recall/set.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "measure/figures/digest.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

// Tokens beyond the expected answer that are waited for.
constexpr int answer_margin = 8, value_margin = 48;

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += (out.empty() ? "" : "\n") + line;
  return out;
}

// Largest n from `least` on for which count(n) is at most `limit`, count being as good as monotone; nothing when
// `least` is too many. `most` bounds it.
template <class Count>
std::optional<std::size_t> most_that_fit(std::size_t least, std::size_t most, std::size_t limit, const Count& count) {
  if (least > most || count(least) > limit) return std::nullopt;
  std::size_t fit = least, beyond = std::min(most, std::max<std::size_t>(2 * least, 8));
  while (beyond < most && count(beyond) <= limit) {
    fit = beyond;
    beyond = std::min(most, 2 * beyond);
  }
  if (beyond == most && count(most) <= limit) return most;
  while (beyond - fit > 1) {
    const std::size_t half = fit + (beyond - fit) / 2;
    (count(half) <= limit ? fit : beyond) = half;
  }
  return fit;
}

// Places where a prefix of `line` ends with a whole character, the shortest first.
std::vector<std::size_t> prefixes(const std::string& line) {
  std::vector<std::size_t> ends;
  for (std::size_t end = 1; end <= line.size(); ++end) {
    const bool inside = end < line.size() && (static_cast<unsigned char>(line[end]) & 0xc0u) == 0x80u;
    if (!inside) ends.push_back(end);
  }
  return ends;
}

[[noreturn]] void too_short(RecallTask task, int length) {
  throw Error(ErrorKind::usage,
              fmt::format("recall: {} tokens are too few for the task {}: give greater --lengths", length, name(task)));
}

class Builder {
 public:
  Builder(const RecallOptions& options, std::string_view text, const Markup& markup)
      : options_(options), markup_(markup), vocabulary_(text), filler_(Filler::usable(text)) {}

  PreparedContext needles(int length, int round) {
    Draws draws = stream(RecallTask::needle, length, round);
    const std::vector<RecallQuestion> needles = make_needles(options_.depths, vocabulary_, draws, taken_);
    const std::vector<std::string> lines = exactly(needles, length, round);
    return prepare({RecallTask::needle, length, round, 0, 0}, joined(lines), needles);
  }

  PreparedContext list(RecallTask task, int length, int round) {
    Draws draws = stream(task, length, round);
    // No line has fewer than four tokens.
    const RecallLines all = make_lines(task, static_cast<std::size_t>(length) / 4 + 16, vocabulary_, draws);
    const auto count = most_that_fit(all.least, all.lines.size(), static_cast<std::size_t>(length),
                                     [&](std::size_t lines) { return markup_.before(all.text(lines)).size(); });
    if (!count) too_short(task, length);
    const auto questions = ask(task, all, *count, static_cast<std::size_t>(options_.questions), draws);
    return prepare({task, length, round, 0, 0}, all.text(*count), questions);
  }

 private:
  Draws stream(RecallTask task, int length, int round, std::uint64_t part = 0) const {
    return Draws({options_.seed, static_cast<std::uint64_t>(task), static_cast<std::uint64_t>(length),
                  static_cast<std::uint64_t>(round), part});
  }

  std::size_t tokens(const std::vector<std::string>& lines) const { return markup_.before(joined(lines)).size(); }

  // Filler around the needles, so that there are `length` tokens up to the question, not one more or less.
  std::vector<std::string> exactly(const std::vector<RecallQuestion>& needles, int length, int round) const {
    const auto limit = static_cast<std::size_t>(length);
    Filler filler(filler_, vocabulary_, stream(RecallTask::needle, length, round, 1));
    const auto with = [&](std::size_t count) { return hide(filler.first(count), needles); };
    auto count = most_that_fit(1, limit, limit, [&](std::size_t lines) { return tokens(with(lines)); });
    if (!count) too_short(RecallTask::needle, length);
    for (int attempt = 0; attempt < 8 && *count > 0; ++attempt, --*count) {
      std::vector<std::string> lines = with(*count);
      const std::size_t missing = limit - tokens(lines);
      if (missing == 0) return lines;
      if (fill(lines, missing, limit, filler, *count)) return lines;
    }
    throw Error(ErrorKind::internal, fmt::format("recall: no context of exactly {} tokens was found", length));
  }

  // Adds one more line in front of the last, the beginning of a line of the filler, that makes up for `missing` tokens.
  bool fill(std::vector<std::string>& lines, std::size_t missing, std::size_t limit, Filler& filler,
            std::size_t from) const {
    constexpr std::size_t most_candidates = 64;
    const std::string end = lines.back() + "\n\n";
    const std::size_t end_tokens = markup_.tokenizer().encode(end, ControlStrings::plain).size();
    for (std::size_t candidate = 0; candidate < most_candidates; ++candidate) {
      const std::string& source = filler.line(from + candidate);
      for (const std::size_t size : prefixes(source)) {
        const std::string pad = source.substr(0, size);
        const std::size_t here = markup_.tokenizer().encode(pad + "\n" + end, ControlStrings::plain).size();
        if (here > end_tokens + missing + 8) break;
        if (here != end_tokens + missing) continue;
        lines.insert(lines.end() - 1, pad);
        if (tokens(lines) == limit) return true;  // line breaks may join with what stands around them
        lines.erase(lines.end() - 2);
      }
    }
    return false;
  }

  PreparedContext prepare(const RecallContext& about, const std::string& context,
                          const std::vector<RecallQuestion>& questions) const {
    PreparedContext prepared;
    prepared.about = about;
    prepared.ids = markup_.before(context);
    for (const RecallQuestion& question : questions) {
      const auto answer = markup_.tokenizer().encode(question.answer, ControlStrings::plain);
      prepared.questions.push_back({question, markup_.after(question.question), static_cast<int>(answer.size())});
    }
    prepared.about.tokens = static_cast<int>(prepared.ids.size());
    prepared.about.questions = static_cast<int>(questions.size());
    return prepared;
  }

  const RecallOptions& options_;
  const Markup& markup_;
  Vocabulary vocabulary_;
  std::vector<std::string> filler_;
  std::vector<std::string> taken_;
};

}  // namespace

Markup::Markup(const Tokenizer& tokenizer, const ChatTemplate& chat) : tokenizer_(tokenizer) {
  const std::string content = "Question";
  Conversation conversation;
  conversation.messages = nlohmann::json::array({{{"role", "user"}, {"content", content}}}).dump();
  ChatOptions options;
  if (chat.variant() != ChatVariant::plain) options.think = false;
  bool found = false;
  for (ChatPiece& piece : chat.render(conversation, options)) {
    if (!piece.control && piece.text == content && !found) {
      found = true;
    } else {
      (found ? footer_ : header_).push_back(std::move(piece));
    }
  }
  if (!found) throw Error(ErrorKind::chat, "recall: the chat template changes the user's text: use --no-recall");
}

std::vector<int> Markup::before(const std::string& context) const {
  std::vector<ChatPiece> pieces = header_;
  pieces.push_back({context + "\n\n", false});
  return encode(tokenizer_, pieces);
}

std::vector<int> Markup::after(const std::string& question) const {
  std::vector<ChatPiece> pieces = {{question, false}};
  pieces.insert(pieces.end(), footer_.begin(), footer_.end());
  return encode(tokenizer_, pieces);
}

std::vector<PreparedContext> make_recall_set(const RecallOptions& options, std::string_view text,
                                             const Markup& markup) {
  Builder builder(options, text, markup);
  std::vector<int> list_lengths;
  for (const int length : options.lengths) {
    if (length <= longest_list) list_lengths.push_back(length);
  }
  if (list_lengths.empty()) list_lengths = {*std::min_element(options.lengths.begin(), options.lengths.end())};

  std::vector<PreparedContext> contexts;
  int asked = 0;
  for (int round = 0; asked < options.answers; ++round) {
    for (const RecallTask task : options.tasks) {
      if (task == RecallTask::needle) {
        for (const int length : options.lengths) contexts.push_back(builder.needles(length, round));
      } else {
        const int length = list_lengths[static_cast<std::size_t>(round) % list_lengths.size()];
        contexts.push_back(builder.list(task, length, round));
      }
    }
    asked = 0;
    for (const PreparedContext& context : contexts) asked += context.about.questions;
  }
  return contexts;
}

std::string digest_of(const std::vector<PreparedContext>& contexts) {
  Digest digest;
  for (const PreparedContext& context : contexts) {
    digest.add_list(context.ids);
    for (const PreparedQuestion& question : context.questions) {
      digest.add_list(question.ids);
      digest.add_text(question.text.answer);
    }
  }
  return digest.hex();
}

int answer_limit(const PreparedQuestion& question, AnswerMatch match) {
  return question.answer_tokens + (match == AnswerMatch::exact ? answer_margin : value_margin);
}

int longest_session(std::span<const PreparedContext> contexts, AnswerMatch match) {
  std::size_t longest = 0;
  for (const PreparedContext& context : contexts) {
    for (const PreparedQuestion& question : context.questions) {
      const auto limit = static_cast<std::size_t>(answer_limit(question, match));
      longest = std::max(longest, context.ids.size() + question.ids.size() + limit);
    }
  }
  return static_cast<int>(longest);
}

}  // namespace tqkv::measure

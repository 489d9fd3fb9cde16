#include "measure/recall/tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "text/utf8.h"

namespace tqkv::measure {
namespace {

// Most entries of the two lists whose length was bounded in training.
constexpr std::size_t most_items = 400, most_pairs = 500;

std::string number(Draws& draws, std::size_t from, std::size_t below) {
  return fmt::format("{}", from + draws.below(below - from));
}

// "left middle right": what a line says of what, for the tasks whose lines are such.
std::pair<std::string, std::string> halves(const std::string& line, std::string_view middle) {
  const std::size_t at = line.find(middle);
  assert(at != std::string::npos);
  return {line.substr(0, at), line.substr(at + middle.size())};
}

std::string without_stop(std::string text) {
  if (!text.empty() && text.back() == '.') text.pop_back();
  return text;
}

// A word that none of `used` is.
std::string fresh(std::set<std::string>& used, const std::function<std::string()>& make) {
  while (true) {
    std::string made = make();
    if (used.insert(made).second) return made;
  }
}

RecallLines table(std::size_t most, Draws& draws) {
  RecallLines lines{"Remember this table.\n", "\n", {}, 4};
  std::set<std::string> keys;
  for (std::size_t i = 0; i < most; ++i) {
    const std::string key = fresh(keys, [&] { return fmt::format("{:05x}", draws.below(std::size_t{1} << 20)); });
    lines.lines.push_back(key + " = " + number(draws, 10'000, 100'000));
  }
  return lines;
}

RecallLines rooms(std::size_t most, Draws& draws) {
  RecallLines lines{"", " ", {}, 0};
  const std::vector<std::string> known = draws.sample(things(), 3 + draws.below(things().size() - 2));
  std::set<std::string> seen;
  for (std::size_t i = 0; i < most || seen.size() < known.size(); ++i) {
    const std::string& thing = draws.choice(known);
    const std::string& place = draws.choice(places());
    const std::string& who = draws.choice(first_names());
    switch (draws.below(3)) {
      case 0:
        lines.lines.push_back(fmt::format("{} put the {} in the {}.", who, thing, place));
        break;
      case 1:
        lines.lines.push_back(fmt::format("{} moved the {} to the {}.", who, thing, place));
        break;
      default:
        lines.lines.push_back(fmt::format("Then {} took the {} to the {}.", who, thing, place));
    }
    seen.insert(thing);
    if (seen.size() == known.size() && lines.least == 0) lines.least = lines.lines.size();
  }
  return lines;
}

RecallLines variables(std::size_t most, Draws& draws) {
  RecallLines lines{"Follow these assignments.\n", "\n", {}, 3};
  std::vector<std::string> known;
  std::set<std::string> names;
  for (std::size_t i = 0; i < most; ++i) {
    std::string name = fmt::format("x{}", draws.below(10'000));
    const bool copies = !known.empty() && draws.chance(60);
    const std::string source = copies ? draws.choice(known) : number(draws, 1'000, 100'000);
    lines.lines.push_back(name + " = " + source);
    if (names.insert(name).second) known.push_back(std::move(name));
    if (names.size() < 3) lines.least = i + 2;
  }
  return lines;
}

RecallLines pairs(std::size_t most, const Vocabulary& vocabulary, Draws& draws) {
  RecallLines lines{"Learn these pairs.\n", "\n", {}, 4};
  std::set<std::string> left;
  const std::size_t tries = std::min(most, most_pairs);
  for (std::size_t i = 0; i < tries || left.size() < lines.least; ++i) {
    const std::string& word = vocabulary.word(draws);
    const std::string& meaning = vocabulary.word(draws);
    if (left.insert(word).second) lines.lines.push_back(fmt::format("{} means {}.", word, meaning));
  }
  return lines;
}

RecallLines numbered(std::size_t most, const Vocabulary& vocabulary, Draws& draws) {
  RecallLines lines{"Here is a list.\n", "\n", {}, 5};
  for (std::size_t i = 0; i < std::min(std::max(most, lines.least), most_items); ++i) {
    const std::string& first = vocabulary.word(draws);
    lines.lines.push_back(fmt::format("{}. {} {}", i + 1, first, vocabulary.word(draws)));
  }
  return lines;
}

RecallQuestion about_room(const std::string& thing, const std::string& place) {
  return {fmt::format("Where is the {}?", thing), fmt::format("The {} is in the {}.", thing, place), place, 0};
}

// Last place of every thing that the first lines name, in the order of the things.
std::vector<RecallQuestion> room_questions(const RecallLines& all, std::size_t count) {
  std::map<std::string, std::string> where;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string line = without_stop(all.lines[i]);
    for (const std::string& thing : things()) {
      if (line.find("the " + thing + " ") == std::string::npos) continue;
      where[thing] = line.substr(line.rfind(' ') + 1);
    }
  }
  std::vector<RecallQuestion> questions;
  questions.reserve(where.size());
  for (const auto& [thing, place] : where) questions.push_back(about_room(thing, place));
  return questions;
}

std::vector<RecallQuestion> variable_questions(const RecallLines& all, std::size_t count) {
  std::map<std::string, std::string> values;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [name, source] = halves(all.lines[i], " = ");
    const auto found = values.find(source);
    // Through a copy: `source` may be `name` itself.
    const std::string value = found == values.end() ? source : found->second;
    values[name] = value;
  }
  std::vector<RecallQuestion> questions;
  questions.reserve(values.size());
  for (const auto& [name, value] : values)
    questions.push_back(
        {fmt::format("What is the value of {}?", name), fmt::format("{} is {}.", name, value), value, 0});
  return questions;
}

RecallQuestion question_of(RecallTask task, const std::string& line, std::size_t index) {
  if (task == RecallTask::table) {
    const auto [key, value] = halves(line, " = ");
    return {fmt::format("What is {}?", key), line, value, 0};
  }
  if (task == RecallTask::pairs) {
    const auto [word, meaning] = halves(line, " means ");
    return {fmt::format("What does {} mean?", word), line, without_stop(meaning), 0};
  }
  const std::string words = halves(line, ". ").second;
  return {fmt::format("What is item {}?", index + 1), fmt::format("Item {} is {}.", index + 1, words), words, 0};
}

bool word_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

}  // namespace

std::string RecallLines::text(std::size_t count) const {
  std::string out = head;
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out += separator;
    out += lines[i];
  }
  return out;
}

RecallLines make_lines(RecallTask task, std::size_t most, const Vocabulary& vocabulary, Draws& draws) {
  switch (task) {
    case RecallTask::table:
      return table(most, draws);
    case RecallTask::rooms:
      return rooms(most, draws);
    case RecallTask::variables:
      return variables(most, draws);
    case RecallTask::pairs:
      return pairs(most, vocabulary, draws);
    case RecallTask::numbered:
      return numbered(most, vocabulary, draws);
    case RecallTask::needle:
      break;
  }
  assert(false);
  return {};
}

std::vector<RecallQuestion> ask(RecallTask task, const RecallLines& all, std::size_t lines, std::size_t count,
                                Draws& draws) {
  if (task == RecallTask::rooms) return draws.sample(room_questions(all, lines), count);
  if (task == RecallTask::variables) return draws.sample(variable_questions(all, lines), count);
  std::vector<std::size_t> indices(lines);
  for (std::size_t i = 0; i < lines; ++i) indices[i] = i;
  std::vector<RecallQuestion> questions;
  for (const std::size_t index : draws.sample(std::move(indices), count))
    questions.push_back(question_of(task, all.lines[index], index));
  return questions;
}

std::vector<RecallQuestion> make_needles(const std::vector<double>& depths, const Vocabulary& vocabulary, Draws& draws,
                                         std::vector<std::string>& taken) {
  std::set<std::string> used(taken.begin(), taken.end());
  const std::vector<std::string> names = draws.sample(first_names(), depths.size());
  std::vector<RecallQuestion> needles;
  for (std::size_t i = 0; i < depths.size(); ++i) {
    const std::string& field = draws.choice(fact_fields());
    const bool phrase = field == "pass phrase";
    const std::string value = fresh(used, [&]() -> std::string {
      if (!phrase && field != "code word") return number(draws, 10'000, 1'000'000);
      const std::string& first = vocabulary.word(draws);
      return phrase ? first + "-" + vocabulary.word(draws) : first;
    });
    taken.push_back(value);
    const char* form = draws.chance(50) ? "Question: What is the {} of {}?" : "What is the {} of {}?";
    needles.push_back({fmt::format(fmt::runtime(form), field, names[i]),
                       fmt::format("The {} of {} is {}.", field, names[i], value), value, depths[i]});
  }
  return needles;
}

std::vector<std::string> hide(const std::vector<std::string>& filler, const std::vector<RecallQuestion>& needles) {
  std::size_t bytes = 0;
  for (const std::string& line : filler) bytes += line.size() + 1;
  // The line in front of which each needle comes: the first one with its share of the bytes before it.
  std::vector<std::pair<std::size_t, std::size_t>> places;  // line, needle
  for (std::size_t needle = 0; needle < needles.size(); ++needle) {
    const double wanted = needles[needle].depth * static_cast<double>(bytes);
    std::size_t line = 0, before = 0;
    while (line < filler.size() && static_cast<double>(before) < wanted) before += filler[line++].size() + 1;
    places.emplace_back(line, needle);
  }
  std::stable_sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> lines;
  std::size_t next = 0;
  for (std::size_t line = 0; line <= filler.size(); ++line) {
    for (; next < places.size() && places[next].first == line; ++next)
      lines.push_back(needles[places[next].second].answer);
    if (line < filler.size()) lines.push_back(filler[line]);
  }
  return lines;
}

Filler::Filler(const std::vector<std::string>& lines, const Vocabulary& vocabulary, Draws draws)
    : source_(lines), vocabulary_(vocabulary), draws_(draws) {
  if (!source_.empty()) start_ = draws_.below(source_.size());
}

void Filler::grow(std::size_t count) {
  while (lines_.size() < count) {
    if (lines_.size() < source_.size()) {
      lines_.push_back(source_[(start_ + lines_.size()) % source_.size()]);
      continue;
    }
    const auto word = [&] { return vocabulary_.word(draws_); };
    std::string line = "The " + word();
    for (std::size_t i = 4 + draws_.below(8); i > 0; --i) line += (draws_.chance(25) ? " of the " : " ") + word();
    lines_.push_back(line + ".");
  }
}

std::vector<std::string> Filler::first(std::size_t count) {
  grow(count);
  return {lines_.begin(), lines_.begin() + static_cast<std::ptrdiff_t>(count)};
}

const std::string& Filler::line(std::size_t index) {
  grow(index + 1);
  return lines_[index];
}

std::vector<std::string> Filler::usable(std::string_view text) {
  constexpr std::size_t most_bytes = 2000;  // of one line: a needle shall not stand beside half of the context
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
    const bool like_a_needle = std::any_of(fact_fields().begin(), fact_fields().end(), [&](const std::string& field) {
      return line.find(field) != std::string::npos;
    });
    if (line.empty() || line.size() > most_bytes || like_a_needle) continue;
    lines.push_back(std::move(line));
  }
  return lines;
}

bool is_right(const RecallQuestion& question, std::string_view answer, AnswerMatch match) {
  const std::string_view own = text::strip(answer);
  if (match == AnswerMatch::exact) return own == question.answer;
  const std::string& value = question.value;
  for (std::size_t at = own.find(value); at != std::string_view::npos; at = own.find(value, at + 1)) {
    const std::size_t end = at + value.size();
    const bool starts = at == 0 || !word_byte(own[at - 1]), ends = end == own.size() || !word_byte(own[end]);
    if (starts && ends) return true;
  }
  return false;
}

}  // namespace tqkv::measure

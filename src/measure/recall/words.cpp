#include "measure/recall/words.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

namespace tqkv::measure {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

const std::vector<std::string>& short_list() {
  static const std::vector<std::string> words = split(
      "amber falcon river copper lantern violet marble thunder cedar comet ember forest glacier harbor indigo jasmine "
      "kettle lemon meadow nickel orchid pepper quartz raven saffron tulip umber velvet willow zephyr bronze canyon "
      "delta eagle fable granite hazel island jungle",
      ' ');
  return words;
}

// As \b and \w of the training's pattern see it; bytes beyond ASCII are taken for letters.
bool in_word(unsigned char byte) {
  return byte >= 0x80 || byte == '_' || (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
         (byte >= 'A' && byte <= 'Z');
}

bool counts(std::string_view word) {
  return word.size() >= 4 && word.size() <= 10 &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

}  // namespace

const std::vector<std::string>& first_names() {
  static const std::vector<std::string> names = split(
      "Ada Alan Alice Amir Anna Ben Bianca Boris Carla Chen Clara Daniel Diana Edgar Elena Emil Farid Fiona Frida "
      "Georg "
      "Grace Hanna Hector Hugo Ida Igor Irene Ivan Jack Jana Jonas Judy Karl Kira Lars Lena Leo Linus Lucia Marie "
      "Mateo "
      "Mila Mona Nadia Nils Nora Olga Omar Oscar Paula Pedro Petra Quinn Rana Rita Rosa Sam Sara Sven Tara Theo Tom "
      "Uma "
      "Vera Viktor Wanda Yara Yusuf Zoe",
      ' ');
  return names;
}

const std::vector<std::string>& things() {
  static const std::vector<std::string> names = split(
      "brass key,red ball,silver coin,blue lamp,old map,green book,wooden box,gold ring,paper kite,glass jar,black "
      "hat,stone cup",
      ',');
  return names;
}

const std::vector<std::string>& places() {
  static const std::vector<std::string> names =
      split("attic,cellar,garden,kitchen,library,garage,harbor,tower,school,market,station,barn", ',');
  return names;
}

const std::vector<std::string>& fact_fields() {
  static const std::vector<std::string> names =
      split("secret code,locker number,ticket number,badge number,room code,order number,pass phrase,code word", ',');
  return names;
}

Vocabulary::Vocabulary(std::string_view text) {
  constexpr std::size_t most = 4000;
  std::map<std::string, std::size_t, std::less<>> uses;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && in_word(static_cast<unsigned char>(text[end]))) ++end;
    if (const std::string_view word = text.substr(at, end - at); counts(word)) ++uses[std::string(word)];
    at = std::max(end, at + 1);
  }
  std::vector<std::pair<std::string, std::size_t>> ranked(uses.begin(), uses.end());
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  for (std::size_t i = 0; i < ranked.size() && i < most; ++i) common_.push_back(ranked[i].first);
  std::sort(common_.begin(), common_.end());
  if (common_.empty()) common_ = short_list();
}

const std::string& Vocabulary::word(Draws& draws) const {
  return draws.chance(30) ? draws.choice(short_list()) : draws.choice(common_);
}

}  // namespace tqkv::measure

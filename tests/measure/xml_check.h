// Whether a text is well-formed XML: tags that match, quoted attributes that stand once, escaped text, one root.
#pragma once
#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::test {

/// Empty for a well-formed document, else what is wrong and where.
class XmlCheck {
 public:
  explicit XmlCheck(std::string_view text) : text_(text) { run(); }
  const std::string& problem() const { return problem_; }
  const std::vector<std::string>& elements() const { return elements_; }
  /// Values of id attributes, in order.
  const std::vector<std::string>& ids() const { return ids_; }
  /// Text between tags, entities replaced.
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  bool fail(const std::string& what) {
    if (problem_.empty()) problem_ = what + " at byte " + std::to_string(at_);
    return false;
  }
  bool starts(std::string_view part) const { return text_.substr(at_, part.size()) == part; }
  bool decode(std::string_view raw, std::string& out) {
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const auto byte = static_cast<unsigned char>(raw[i]);
      if (byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r') return fail("a control character");
      if (raw[i] == '<') return fail("a raw <");
      if (raw[i] != '&') {
        out += raw[i];
        continue;
      }
      const std::size_t end = raw.find(';', i);
      const std::string_view entity = end == std::string_view::npos ? "" : raw.substr(i + 1, end - i - 1);
      if (entity == "amp")
        out += '&';
      else if (entity == "lt")
        out += '<';
      else if (entity == "gt")
        out += '>';
      else if (entity == "quot")
        out += '"';
      else if (entity == "#39")
        out += '\'';
      else
        return fail("an unknown entity");
      i = end;
    }
    return true;
  }
  static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == ':' ||
           c == '_';
  }
  std::string name() {
    std::string out;
    while (at_ < text_.size() && name_char(text_[at_])) out += text_[at_++];
    return out;
  }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool tag() {
    if (starts("</")) {
      at_ += 2;
      const std::string closed = name();
      if (open_.empty() || open_.back() != closed) return fail("</" + closed + "> closes nothing");
      open_.pop_back();
      if (!starts(">")) return fail("</" + closed + " without >");
      ++at_;
      return true;
    }
    ++at_;
    const std::string opened = name();
    if (opened.empty()) return fail("a tag without a name");
    if (open_.empty() && !elements_.empty()) return fail("a second root");
    elements_.push_back(opened);
    std::set<std::string> attributes;
    while (true) {
      space();
      if (starts("/>")) {
        at_ += 2;
        return true;
      }
      if (starts(">")) {
        ++at_;
        open_.push_back(opened);
        return true;
      }
      const std::string attribute = name();
      if (attribute.empty() || !attributes.insert(attribute).second) return fail("a bad attribute '" + attribute + "'");
      if (!starts("=\"")) return fail("an attribute without a quoted value");
      at_ += 2;
      const std::size_t end = text_.find('"', at_);
      if (end == std::string_view::npos) return fail("an open quote");
      std::string value;
      if (!decode(text_.substr(at_, end - at_), value)) return false;
      if (attribute == "id") ids_.push_back(value);
      at_ = end + 1;
    }
  }
  void run() {
    while (at_ < text_.size()) {
      if (starts("<?xml") || starts("<!DOCTYPE")) {
        at_ = text_.find('>', at_);
        if (at_ == std::string_view::npos || !elements_.empty()) {
          fail("a misplaced declaration");
          return;
        }
        ++at_;
      } else if (starts("<")) {
        if (!tag()) return;
      } else {
        const std::size_t end = std::min(text_.find('<', at_), text_.size());
        std::string out;
        if (!decode(text_.substr(at_, end - at_), out)) return;
        if (open_.empty() && out.find_first_not_of(" \n") != std::string::npos) {
          fail("text outside the root");
          return;
        }
        if (!open_.empty()) texts_.push_back(out);
        at_ = end;
      }
    }
    if (!open_.empty()) fail("<" + open_.back() + "> is never closed");
    if (elements_.empty()) fail("no element");
    if (std::set<std::string>(ids_.begin(), ids_.end()).size() != ids_.size()) fail("an id that stands twice");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string problem_;
  std::vector<std::string> open_, elements_, ids_, texts_;
};

}  // namespace tqkv::test

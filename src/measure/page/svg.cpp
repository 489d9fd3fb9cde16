#include "measure/page/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "measure/figures/text_table.h"

namespace tqkv::measure {
namespace {

constexpr double pi = 3.14159265358979323846;

// Two decimals without trailing zeros: "12.5".
std::string unit(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string fill_of(Paint paint) {
  return fmt::format(R"(class="f-{}" fill="{}")", paint.name, paint.colour);
}

std::string stroke_of(const Stroke& stroke) {
  std::string out = fmt::format(R"(class="s-{}" stroke="{}" stroke-width="{}")", stroke.paint.name, stroke.paint.colour,
                                unit(stroke.width));
  if (!stroke.dash.empty()) out += fmt::format(R"( stroke-dasharray="{}")", stroke.dash);
  if (stroke.opacity < 1) out += fmt::format(R"( stroke-opacity="{}")", unit(stroke.opacity));
  return out;
}

std::string_view name_of(Anchor anchor) {
  switch (anchor) {
    case Anchor::start:
      return "start";
    case Anchor::middle:
      return "middle";
    case Anchor::end:
      return "end";
  }
  return "start";
}

struct Decoded {
  std::uint32_t code = 0xfffd;
  std::size_t length = 1;
  bool valid = false;
};

// The character that starts at `at`: valid for one of XML 1.0.
Decoded decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(at);
  if (first < 0x80) return {first, 1, first >= 0x20 || first == '\t' || first == '\n' || first == '\r'};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > text.size()) return {};
  std::uint32_t code = first & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0u) != 0x80u) return {};
    code = (code << 6) | (byte(at + i) & 0x3fu);
  }
  constexpr std::array<std::uint32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < least[length] || code > 0x10ffff || surrogate) return {};
  return {code, length, code >= 0xa0 && (code & 0xfffeu) != 0xfffeu};
}

std::string points_of(const std::vector<std::pair<double, double>>& points) {
  std::string out;
  for (const auto& [x, y] : points) out += fmt::format("{}{},{}", out.empty() ? "" : " ", unit(x), unit(y));
  return out;
}

// Corners of a regular shape around (x, y), the first at `turn` of a full turn from the top.
std::string corners(double x, double y, double radius, int count, double turn) {
  std::vector<std::pair<double, double>> points;
  for (int i = 0; i < count; ++i) {
    const double angle = 2 * pi * (turn + static_cast<double>(i) / count);
    points.emplace_back(x + radius * std::sin(angle), y - radius * std::cos(angle));
  }
  return points_of(points);
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t at = 0; at < text.size();) {
    const Decoded character = decode(text, at);
    if (!character.valid) {
      out += "\xef\xbf\xbd";
    } else if (character.length > 1) {
      out += text.substr(at, character.length);
    } else {
      switch (text[at]) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        case '\'':
          out += "&#39;";
          break;
        default:
          out += text[at];
      }
    }
    at += character.length;
  }
  return out;
}

Paint series_paint(int index) {
  static constexpr std::array<Paint, series_count> all = {{{"0", "#0072b2"},
                                                           {"1", "#d55e00"},
                                                           {"2", "#009e73"},
                                                           {"3", "#cc79a7"},
                                                           {"4", "#e69f00"},
                                                           {"5", "#56b4e9"},
                                                           {"6", "#1a1a1a"},
                                                           {"7", "#8c6239"},
                                                           {"8", "#7a4fb5"},
                                                           {"9", "#807a00"}}};
  return all[static_cast<std::size_t>(((index % series_count) + series_count) % series_count)];
}

std::string shade(double share) {
  const double part = std::clamp(share, 0.0, 1.0);
  const auto between = [&](double from, double to) { return static_cast<int>(std::lround(from + (to - from) * part)); };
  return fmt::format("#{:02x}{:02x}{:02x}", between(0xf7, 0x08), between(0xfb, 0x45), between(0xff, 0x8b));
}

void Canvas::line(double x1, double y1, double x2, double y2, const Stroke& stroke) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {}/>\n", unit(x1), unit(y1), unit(x2), unit(y2),
                       stroke_of(stroke));
}

void Canvas::polyline(const std::vector<std::pair<double, double>>& points, const Stroke& stroke) {
  if (points.size() < 2) return;
  body_ += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>\n", points_of(points),
                       stroke_of(stroke));
}

void Canvas::rect(double x, double y, double width, double height, Paint fill, double opacity) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {}{}/>\n", unit(x), unit(y), unit(width),
                       unit(height), fill_of(fill),
                       opacity < 1 ? fmt::format(" fill-opacity=\"{}\"", unit(opacity)) : std::string());
}

void Canvas::cell(double x, double y, double width, double height, const std::string& colour) {
  body_ += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#8a8a8a\" "
      "stroke-width=\"0.5\"/>\n",
      unit(x), unit(y), unit(width), unit(height), escaped(colour));
}

void Canvas::text(double x, double y, std::string_view text, Anchor anchor, Paint paint, double size) {
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" {}>{}</text>\n", unit(x), unit(y),
                       unit(size), name_of(anchor), fill_of(paint), escaped(text));
}

void Canvas::label(double x, double y, std::string_view text, Anchor anchor, Paint paint, double size) {
  body_ += fmt::format(
      "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" class=\"f-{} s-paper\" fill=\"{}\" stroke=\"{}\" "
      "stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\">{}</text>\n",
      unit(x), unit(y), unit(size), name_of(anchor), paint.name, paint.colour, paints::paper.colour, escaped(text));
}

void Canvas::text_in(double x, double y, std::string_view text, Anchor anchor, const std::string& colour, double size) {
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" fill=\"{}\">{}</text>\n", unit(x),
                       unit(y), unit(size), name_of(anchor), escaped(colour), escaped(text));
}

void Canvas::mark(double x, double y, int index, double size) {
  const Paint paint = series_paint(index);
  const double half = size / 2;
  // A rim of paper keeps marks apart that lie on each other.
  const std::string rim = fmt::format(R"(class="f-{0} s-paper" fill="{1}" stroke="{2}" stroke-width="1")", paint.name,
                                      paint.colour, paints::paper.colour);
  const auto polygon = [&](const std::string& points) {
    body_ += fmt::format("<polygon points=\"{}\" {}/>\n", points, rim);
  };
  switch (((index % series_count) + series_count) % series_count) {
    case 0:
      body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {}/>\n", unit(x), unit(y), unit(half), rim);
      break;
    case 1:
      polygon(corners(x, y, half * 1.3, 4, 0.125));  // square
      break;
    case 2:
      polygon(corners(x, y, half * 1.35, 3, 0));
      break;
    case 3:
      polygon(corners(x, y, half * 1.35, 4, 0));  // diamond
      break;
    case 4:
      polygon(corners(x, y, half * 1.35, 3, 0.5));
      break;
    case 5:
      polygon(corners(x, y, half * 1.2, 6, 0));
      break;
    case 6:  // a cross of two bars
      line(x - half, y - half, x + half, y + half, {paint, 2.6});
      line(x - half, y + half, x + half, y - half, {paint, 2.6});
      break;
    case 7:  // a plus
      line(x - half, y, x + half, y, {paint, 3});
      line(x, y - half, x, y + half, {paint, 3});
      break;
    case 8: {  // a star
      std::vector<std::pair<double, double>> points;
      for (int i = 0; i < 10; ++i) {
        const double angle = pi * i / 5, radius = half * (i % 2 == 0 ? 1.5 : 0.65);
        points.emplace_back(x + radius * std::sin(angle), y - radius * std::cos(angle));
      }
      polygon(points_of(points));
      break;
    }
    default:  // a ring
      body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"none\" {}/>\n", unit(x), unit(y),
                           unit(half - 0.5), stroke_of({paint, 2.6}));
  }
}

void Canvas::whisker(double x, double top, double bottom, Paint paint) {
  const Stroke stroke{paint, 1.3};
  line(x, top, x, bottom, stroke);
  line(x - 3, top, x + 3, top, stroke);
  line(x - 3, bottom, x + 3, bottom, stroke);
}

void Canvas::whisker_across(double left, double right, double y, Paint paint) {
  const Stroke stroke{paint, 1.3};
  line(left, y, right, y, stroke);
  line(left, y - 3, left, y + 3, stroke);
  line(right, y - 3, right, y + 3, stroke);
}

double text_width(std::string_view text, double size) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;  // first bytes of characters
  });
  return 0.58 * size * static_cast<double>(characters);
}

std::string shortened(std::string_view text, double width, double size) {
  std::string out(text);
  const auto pop = [&] {  // one character
    while (out.size() > 1 && (static_cast<unsigned char>(out.back()) & 0xc0u) == 0x80u) out.pop_back();
    out.pop_back();
  };
  if (text_width(out, size) <= width) return out;
  while (!out.empty() && text_width(out + "…", size) > width) pop();
  return out + "…";
}

Scale Scale::linear(double low, double high) {
  if (!(high > low)) high = low + (low == 0 ? 1 : std::abs(low) * 0.1);
  return {low, high, false};
}

Scale Scale::logarithmic(double low, double high) {
  if (high < low) std::swap(low, high);
  // 1, 2 and 5 times powers of ten, downwards and upwards.
  const auto round_down = [](double value) {
    const double decade = std::pow(10, std::floor(std::log10(value)));
    const double part = value / decade * (1 + 1e-9);
    return decade * (part >= 5 ? 5 : part >= 2 ? 2 : 1);
  };
  const auto round_up = [](double value) {
    const double decade = std::pow(10, std::floor(std::log10(value)));
    const double part = value / decade * (1 - 1e-9);
    return decade * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
  };
  constexpr double least = 1e-30;
  low = round_down(std::max(low, least));
  high = round_up(std::max(high, least));
  if (!(high > low)) high = low * 10;
  return {low, high, true};
}

double Scale::at(double value) const {
  double part = (value - low_) / (high_ - low_);
  if (log_) part = value <= low_ ? 0 : (std::log(value) - std::log(low_)) / (std::log(high_) - std::log(low_));
  return std::clamp(part, 0.0, 1.0);
}

std::vector<Tick> Scale::ticks(int most) const {
  std::vector<Tick> ticks;
  const double edge = 1e-9;
  if (log_) {
    const int first = static_cast<int>(std::floor(std::log10(low_) + edge));
    const int last = static_cast<int>(std::ceil(std::log10(high_) - edge));
    // 1, 2, 5 in each decade; 1 alone; then every 2nd, 3rd, ... decade.
    for (int step = -1;; step = step < 0 ? 1 : step + 1) {
      ticks.clear();
      for (int decade = first; decade <= last; ++decade) {
        if (step > 0 && (decade - first) % step != 0) continue;
        for (const double part : {1.0, 2.0, 5.0}) {
          if (step > 0 && part > 1) break;
          const double value = part * std::pow(10, decade);
          if (value < low_ * (1 - edge) || value > high_ * (1 + edge)) continue;
          ticks.push_back(
              {value, decade < -4 || decade > 5 ? fmt::format("{}e{}", part, decade) : fmt::format("{:g}", value)});
        }
      }
      if (static_cast<int>(ticks.size()) <= std::max(most, 2)) return ticks;
    }
  }
  // The smallest step of 1, 2 or 5 that leaves few enough.
  double decade = std::pow(10, std::floor(std::log10((high_ - low_) / std::max(most, 2))));
  double step = 0;
  for (int i = 0;; ++i) {
    constexpr double factors[] = {1, 2, 5};
    step = decade * factors[i % 3];
    if (std::floor(high_ / step + edge) - std::ceil(low_ / step - edge) + 1 <= std::max(most, 2)) break;
    if (i % 3 == 2) decade *= 10;
  }
  const int decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + edge)), 0, 12);
  for (double index = std::ceil(low_ / step - edge); index * step <= high_ + step * edge; ++index) {
    const double value = index * step + 0.0;  // no -0
    const std::string label =
        std::abs(value) >= 1e7 ? fmt::format("{:.3g}", value) : fmt::format("{:.{}f}", value, decimals);
    ticks.push_back({value, label});
    if (ticks.size() > 64) break;  // a range of a few units in the last place
  }
  return ticks;
}

void draw_up_axis(Canvas& canvas, const Panel& panel, std::string_view up_title, int most_ticks) {
  for (const Tick& tick : panel.up.ticks(most_ticks)) {
    const double y = panel.at_y(tick.value);
    canvas.line(panel.x, y, panel.x + panel.width, y, {paints::grid, 1});
    canvas.text(panel.x - 6, y + 4, tick.label, Anchor::end, paints::faint, 12);
  }
  canvas.line(panel.x, panel.y, panel.x, panel.y + panel.height, {paints::faint, 1});
  if (!up_title.empty()) canvas.text(std::max(4.0, panel.x - 48), panel.y - 10, up_title);
}

void draw_across_axis(Canvas& canvas, const Panel& panel, std::string_view across_title, int most_ticks) {
  const double bottom = panel.y + panel.height;
  for (const Tick& tick : panel.across.ticks(most_ticks)) {
    const double x = panel.at_x(tick.value);
    canvas.line(x, panel.y, x, bottom, {paints::grid, 1});
    canvas.text(x, bottom + 16, tick.label, Anchor::middle, paints::faint, 12);
  }
  canvas.line(panel.x, bottom, panel.x + panel.width, bottom, {paints::faint, 1});
  if (!across_title.empty()) canvas.text(panel.x + panel.width / 2, bottom + 34, across_title, Anchor::middle);
}

void draw_categories(Canvas& canvas, const Panel& panel, const std::vector<std::string>& names,
                     std::string_view across_title) {
  const double bottom = panel.y + panel.height;
  double widest = 0;
  for (const std::string& name : names) widest = std::max(widest, text_width(name, 12) + 6);
  // Names that would run into each other are left out at equal steps.
  const double room = panel.width / static_cast<double>(std::max<std::size_t>(names.size(), 1));
  const auto step = static_cast<std::size_t>(std::max(1.0, std::ceil(widest / room)));
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double x = category_x(panel, i, names.size());
    canvas.line(x, bottom, x, bottom + 4, {paints::faint, 1});
    if (i % step == 0) canvas.text(x, bottom + 17, names[i], Anchor::middle, paints::faint, 12);
  }
  canvas.line(panel.x, bottom, panel.x + panel.width, bottom, {paints::faint, 1});
  if (!across_title.empty()) canvas.text(panel.x + panel.width / 2, bottom + 35, across_title, Anchor::middle);
}

double category_x(const Panel& panel, std::size_t index, std::size_t count) {
  return panel.x +
         panel.width * (static_cast<double>(index) + 0.5) / static_cast<double>(std::max<std::size_t>(count, 1));
}

double draw_legend(Canvas& canvas, double x, double y, double width, const std::vector<LegendEntry>& entries) {
  constexpr double row = 19, gap = 14, mark_width = 16;
  double widest = 0;
  for (const LegendEntry& entry : entries) widest = std::max(widest, mark_width + text_width(entry.label, 12) + gap);
  const int columns = std::clamp(static_cast<int>(width / std::max(widest, 1.0)), 1, 4);
  const int count = static_cast<int>(entries.size());
  for (int i = 0; i < count; ++i) {
    const LegendEntry& entry = entries[static_cast<std::size_t>(i)];
    const int column = i % columns, line = i / columns;
    const double left = x + column * width / columns, middle = y + (line + 0.5) * row;
    canvas.mark(left + 6, middle, entry.index, 8.5);
    canvas.text(left + mark_width, middle + 4, shortened(entry.label, width / columns - mark_width, 12), Anchor::start,
                paints::ink, 12);
  }
  const int lines = (count + columns - 1) / columns;
  return row * lines;
}

std::string svg_element(const Drawing& drawing) {
  const std::string id = escaped(drawing.id);
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" "
      "aria-labelledby=\"{2}-title {2}-description\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, "
      "sans-serif\">\n<title id=\"{2}-title\">{3}</title>\n<desc id=\"{2}-description\">{4}</desc>\n"
      "<rect width=\"{0}\" height=\"{1}\" {5}/>\n{6}</svg>\n",
      unit(drawing.width), unit(drawing.height), id, escaped(drawing.title), escaped(drawing.description),
      fill_of(paints::paper), drawing.body);
}

std::string svg_file(const Drawing& drawing) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + svg_element(drawing);
}

}  // namespace tqkv::measure

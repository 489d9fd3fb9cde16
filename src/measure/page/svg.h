// A small writer of SVG: text, lines, marks of different shapes, axes. Sizes are in units of the view box; colours
// stand on each element, with a class beside them so that a page can give them others.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tqkv::measure {

/// Text as it may stand in XML and HTML, in elements and in quoted attributes. `text` is UTF-8; characters that XML
/// does not allow become U+FFFD.
std::string escaped(std::string_view text);

/// A colour with the class that renames it.
struct Paint {
  std::string_view name, colour;
};
namespace paints {
inline constexpr Paint ink{"ink", "#1a1a1a"}, faint{"faint", "#5f5f5f"}, grid{"grid", "#d9d9d9"},
    paper{"paper", "#ffffff"};
}  // namespace paints
inline constexpr int series_count = 10;
/// One of `series_count` colours, again from the first after the last. The first seven are Okabe and Ito's without the
/// yellow, which the colour-blind tell apart; shapes tell all of them apart.
Paint series_paint(int index);
/// From near white at 0 to dark blue at 1.
std::string shade(double share);

enum class Anchor { start, middle, end };

struct Stroke {
  Paint paint = paints::ink;
  double width = 1;
  std::string_view dash = {};  // as stroke-dasharray has it
  double opacity = 1;
};

/// What is drawn so far.
class Canvas {
 public:
  static constexpr double text_size = 13;

  void line(double x1, double y1, double x2, double y2, const Stroke& stroke);
  void polyline(const std::vector<std::pair<double, double>>& points, const Stroke& stroke);
  void rect(double x, double y, double width, double height, Paint fill, double opacity = 1);
  /// Filled with a colour of its own.
  void cell(double x, double y, double width, double height, const std::string& colour);
  void text(double x, double y, std::string_view text, Anchor anchor = Anchor::start, Paint paint = paints::ink,
            double size = text_size);
  /// The same over other parts of a drawing, with a rim of paper.
  void label(double x, double y, std::string_view text, Anchor anchor, Paint paint, double size);
  /// Text in a colour of its own.
  void text_in(double x, double y, std::string_view text, Anchor anchor, const std::string& colour, double size);
  /// One of `series_count` shapes, about `size` across; shapes and colours of an index go together.
  void mark(double x, double y, int index, double size = 9);
  /// A vertical bar with ends, for an interval.
  void whisker(double x, double top, double bottom, Paint paint);
  /// The same lying.
  void whisker_across(double left, double right, double y, Paint paint);

  const std::string& body() const { return body_; }

 private:
  std::string body_;
};

/// Width that text takes, roughly: fonts differ.
double text_width(std::string_view text, double size = Canvas::text_size);
/// The text, or as much of it as fits `width` with an ellipsis.
std::string shortened(std::string_view text, double width, double size);

struct Tick {
  double value = 0;
  std::string label;
};

/// From values to 0..1.
class Scale {
 public:
  /// A range without extent is widened. Values must be finite.
  static Scale linear(double low, double high);
  /// The range in full decades or, where it spans few of them, in steps of 1, 2 and 5. Both must be above 0.
  static Scale logarithmic(double low, double high);
  /// 0 to 1 inside the range; values outside come to its ends.
  double at(double value) const;
  bool contains(double value) const { return value >= low_ && value <= high_; }
  double low() const { return low_; }
  double high() const { return high_; }
  /// Round values inside the range, at most `most` of them (at least 2).
  std::vector<Tick> ticks(int most) const;

 private:
  Scale(double low, double high, bool log) : low_(low), high_(high), log_(log) {}
  double low_, high_;
  bool log_;
};

/// The rectangle of a plot with its two scales.
struct Panel {
  double x = 0, y = 0, width = 0, height = 0;
  Scale across = Scale::linear(0, 1), up = Scale::linear(0, 1);
  double at_x(double value) const { return x + width * across.at(value); }
  double at_y(double value) const { return y + height * (1 - up.at(value)); }
};

/// Grid, ticks and labels. `up_title` stands above the panel, `across_title` below the labels.
void draw_up_axis(Canvas& canvas, const Panel& panel, std::string_view up_title, int most_ticks = 6);
void draw_across_axis(Canvas& canvas, const Panel& panel, std::string_view across_title, int most_ticks = 7);
/// Names at equal distances instead of numbers: the middle of each is category_x().
void draw_categories(Canvas& canvas, const Panel& panel, const std::vector<std::string>& names,
                     std::string_view across_title);
double category_x(const Panel& panel, std::size_t index, std::size_t count);

struct LegendEntry {
  std::string label;
  int index = 0;  // of the series
};
/// Marks with names in rows of `width`; returns the height that was used.
double draw_legend(Canvas& canvas, double x, double y, double width, const std::vector<LegendEntry>& entries);

/// A finished drawing with its name and description, for those who read and those who hear.
struct Drawing {
  std::string id, title, description;
  double width = 0, height = 0;
  std::string body;
};
/// The svg element, with title and description that the id refers to.
std::string svg_element(const Drawing& drawing);
/// The same as a file.
std::string svg_file(const Drawing& drawing);

}  // namespace tqkv::measure

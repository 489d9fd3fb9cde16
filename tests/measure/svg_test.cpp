#include "measure/page/svg.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "measure/xml_check.h"

using namespace tqkv;
using namespace tqkv::measure;

TEST_CASE("text is escaped for XML, and characters that XML does not allow are replaced") {
  CHECK(escaped("a < b & \"c\" > 'd'") == "a &lt; b &amp; &quot;c&quot; &gt; &#39;d&#39;");
  CHECK(escaped("<script>alert(1)</script>") == "&lt;script&gt;alert(1)&lt;/script&gt;");
  CHECK(escaped("ä – 語 😀\t\n") == "ä – 語 😀\t\n");
  const std::string replaced = "\xef\xbf\xbd";
  CHECK(escaped(std::string("a\0b\x1b", 4)) == "a" + replaced + "b" + replaced);
  CHECK(escaped("\xff\xc3") == replaced + replaced);                 // no UTF-8
  CHECK(escaped("\xed\xa0\x80") == replaced + replaced + replaced);  // a surrogate
  CHECK(escaped("\xc0\x80") == replaced + replaced);                 // an overlong zero
  CHECK(escaped("\xef\xbf\xbf") == replaced);                        // U+FFFF
  CHECK(escaped("\xc2\x85") == replaced);                            // a control character of two bytes
}

TEST_CASE("the XML check finds what is not well-formed") {
  CHECK(test::XmlCheck("<a><b c=\"1\"/>x &amp; y</a>").problem().empty());
  for (const char* bad : {"<a><b></a></b>", "<a>x & y</a>", "<a b=1/>", "<a/><b/>", "<a>", "</a>",
                          "<a b=\"1\" b=\"2\"/>", "<a id=\"1\"><b id=\"1\"/></a>", "text", ""})
    CHECK_MESSAGE(!test::XmlCheck(bad).problem().empty(), bad);
}

TEST_CASE("a linear scale has round ticks inside its range, no more than asked for") {
  const Scale scale = Scale::linear(0, 1234);
  CHECK(scale.at(0) == 0);
  CHECK(scale.at(617) == doctest::Approx(0.5));
  CHECK(scale.at(-5) == 0);
  CHECK(scale.at(1e9) == 1);
  const std::vector<Tick> ticks = scale.ticks(7);
  REQUIRE(ticks.size() == 7);
  CHECK(ticks[1].value == doctest::Approx(200));
  CHECK(ticks[1].label == "200");
  CHECK(ticks.back().value <= 1234);
  CHECK(Scale::linear(0, 0.02).ticks(5)[1].label == "0.005");
  for (const double high : {1e-9, 0.3, 7.0, 99.0, 1e12}) {
    for (const int most : {2, 5, 9}) {
      const std::size_t count = Scale::linear(0, high).ticks(most).size();
      CHECK(count >= 1);
      CHECK(count <= static_cast<std::size_t>(most));
    }
  }
}

TEST_CASE("a range without extent still has a scale") {
  for (const double value : {0.0, 5.0, -3.0}) {
    const Scale scale = Scale::linear(value, value);
    CHECK(scale.high() > scale.low());
    CHECK(std::isfinite(scale.at(value)));
  }
  CHECK(Scale::logarithmic(0.01, 0.01).high() > 0.01);
}

TEST_CASE("a logarithmic scale starts and ends at round values and has equal steps for equal factors") {
  const Scale scale = Scale::logarithmic(0.0031, 0.47);
  CHECK(scale.low() == doctest::Approx(0.002));
  CHECK(scale.high() == doctest::Approx(0.5));
  CHECK(scale.at(0.02) - scale.at(0.01) == doctest::Approx(scale.at(0.4) - scale.at(0.2)));
  CHECK(scale.at(0) == 0);
  const std::vector<Tick> ticks = scale.ticks(8);
  CHECK(ticks.front().label == "0.002");
  CHECK(ticks.back().label == "0.5");
  CHECK(Scale::logarithmic(1e-9, 1).ticks(6).size() <= 6);
  CHECK(Scale::logarithmic(1e-300, 1e300).ticks(6).size() <= 6);
}

TEST_CASE("each series has a colour and a shape of its own, and they repeat after the last") {
  std::set<std::string> colours, shapes;
  for (int i = 0; i < series_count; ++i) {
    colours.insert(std::string(series_paint(i).colour));
    Canvas canvas;
    canvas.mark(50, 50, i);
    std::string shape = canvas.body();
    // Without its colour and class.
    for (const std::string& part : {std::string(series_paint(i).colour), "f-" + std::string(series_paint(i).name),
                                    "s-" + std::string(series_paint(i).name)}) {
      for (std::size_t at; (at = shape.find(part)) != std::string::npos;) shape.erase(at, part.size());
    }
    shapes.insert(shape);
  }
  CHECK(colours.size() == series_count);
  CHECK(shapes.size() == series_count);
  CHECK(series_paint(series_count + 2).colour == series_paint(2).colour);
}

TEST_CASE("a drawing becomes an SVG file with a name and a description that readers of a screen hear") {
  Canvas canvas;
  canvas.text(1, 2, "1 < 2 & \"3\"");
  canvas.polyline({{1, 2}, {3, 4.5}}, {});
  canvas.whisker(4, 1, 9, paints::ink);
  canvas.cell(0, 0, 5, 5, shade(0.5));
  for (int i = 0; i < series_count; ++i) canvas.mark(10 * i, 5, i);
  draw_legend(canvas, 0, 20, 100, {{"a<b", 0}, {"c", 1}, {"d", 2}});
  const std::string file = svg_file({"figure-x", "A & B", "Says <more>", 100, 50, canvas.body()});
  const test::XmlCheck check(file);
  CHECK(check.problem() == "");
  CHECK(check.elements().front() == "svg");
  CHECK(file.find("role=\"img\" aria-labelledby=\"figure-x-title figure-x-description\"") != std::string::npos);
  CHECK(file.find("<title id=\"figure-x-title\">A &amp; B</title>") != std::string::npos);
  CHECK(file.find("<desc id=\"figure-x-description\">Says &lt;more&gt;</desc>") != std::string::npos);
  CHECK(file.find("viewBox=\"0 0 100 50\"") != std::string::npos);
}

TEST_CASE("a text that is too long is cut between characters") {
  CHECK(shortened("short", 100, 12) == "short");
  const std::string cut = shortened("ééééééééééééééééé", 60, 12);
  CHECK(text_width(cut, 12) <= 60);
  CHECK(cut.find("é") == 0);
  CHECK(escaped(cut) == cut);
}

TEST_CASE("shades go from light to dark") {
  CHECK(shade(0) == "#f7fbff");
  CHECK(shade(1) == "#08458b");
  CHECK(shade(7) == shade(1));
}

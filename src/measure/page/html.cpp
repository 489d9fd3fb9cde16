#include "measure/page/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace tqkv::measure {
namespace {

// Neither & nor < may stand here: the page is XML too.
constexpr std::string_view style = R"(
:root{color-scheme:light;--ink:#1a1a1a;--paper:#fff;--faint:#5f5f5f;--line:#d9d9d9;--band:#f4f4f4}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,'Segoe UI',Helvetica,Arial,sans-serif;color:var(--ink);background:var(--paper)}
main{max-width:1340px;margin:0 auto;padding:8px 16px 48px;overflow-wrap:anywhere}
h1{font-size:1.7em;line-height:1.2;margin:.6em 0 .4em}
h2{font-size:1.25em;line-height:1.25;margin:2.2em 0 .4em;padding-top:.5em;border-top:2px solid var(--line)}
p{margin:.5em 0;max-width:75ch}
nav ul{columns:2 260px;margin:.5em 0;padding-left:1.2em}
a{color:inherit}
.pair{display:grid;grid-template-columns:minmax(0,1fr);gap:0 32px}
.figures{display:grid;grid-template-columns:minmax(0,1fr);gap:0 32px;min-width:0}
.tables{min-width:0}
figure{margin:8px 0 16px}
svg{display:block;width:100%;height:auto;max-width:620px}
.scroll{overflow-x:auto;margin:8px 0 16px}
.scroll:focus-visible{outline:2px solid var(--faint)}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;overflow-wrap:normal}
caption{text-align:left;font-weight:600;padding:4px 0}
th,td{padding:4px 10px;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;white-space:nowrap}
thead th{vertical-align:bottom;white-space:normal;min-width:4.5em;background:var(--band)}
tbody th{font-weight:600;white-space:normal;min-width:8em;background:var(--paper)}
tr :first-child{position:sticky;left:0}
.w{text-align:left}
.l{text-align:left;white-space:normal;min-width:18em;max-width:60em;overflow-wrap:anywhere}
pre{background:var(--band);padding:8px 12px;margin:8px 0;font-size:13px;white-space:pre-wrap}
footer{margin-top:3em;color:var(--faint);font-size:14px}
@media (min-width:1100px){.pair{grid-template-columns:minmax(0,620px) minmax(0,1fr)}.stack .figures{grid-template-columns:repeat(2,minmax(0,620px))}}
@media screen and (prefers-color-scheme:dark){
:root{color-scheme:dark;--ink:#e6e6e6;--paper:#161616;--faint:#a8a8a8;--line:#3a3a3a;--band:#222}
.f-ink{fill:#e6e6e6}.f-faint{fill:#a8a8a8}.f-paper{fill:#161616}.s-ink{stroke:#e6e6e6}.s-faint{stroke:#a8a8a8}.s-grid{stroke:#3a3a3a}.s-paper{stroke:#161616}
.f-0{fill:#3f9fdc}.s-0{stroke:#3f9fdc}.f-6{fill:#e6e6e6}.s-6{stroke:#e6e6e6}.f-7{fill:#c79868}.s-7{stroke:#c79868}.f-8{fill:#a98be0}.s-8{stroke:#a98be0}.f-9{fill:#b5ad2e}.s-9{stroke:#b5ad2e}}
@media print{
@page{margin:14mm}
body{font-size:10pt}main{max-width:none;padding:0}nav{display:none}
h2,section p{break-after:avoid}p{break-inside:avoid}h2{margin-top:1.4em}p{max-width:none}
.pair,.figures{display:block}.scroll{overflow:visible}tr :first-child{position:static}
table{font-size:7pt}th,td{padding:2px 3px;white-space:normal;overflow-wrap:break-word}
thead th,tbody th,.l{min-width:0}
figure,tr{break-inside:avoid}caption{break-after:avoid}thead{display:table-header-group}
svg{max-width:150mm;max-height:230mm}}
)";

std::string_view class_of(Column::Kind kind) {
  switch (kind) {
    case Column::Kind::number:
      return "";
    case Column::Kind::words:
      return " class=\"w\"";
    case Column::Kind::long_words:
      return " class=\"l\"";
  }
  return "";
}

std::string table_text(const Table& table) {
  const std::string caption = escaped(table.caption);
  // The box scrolls, so it can be reached by keyboard.
  std::string out = fmt::format(
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"{0}\">\n<table>\n<caption>{0}</caption>\n<thead><tr>",
      caption);
  for (const Column& column : table.columns)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", class_of(column.kind), escaped(column.title));
  out += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string_view kind = i < table.columns.size() ? class_of(table.columns[i].kind) : "";
      out += i == 0 ? fmt::format("<th scope=\"row\"{}>{}</th>", kind, escaped(row[i]))
                    : fmt::format("<td{}>{}</td>", kind, escaped(row[i]));
    }
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n</div>\n";
}

// Pixels that a table takes, roughly.
double width_of(const Table& table) {
  double sum = 0;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    std::string_view title = table.columns[i].title;
    double widest = 0;
    while (!title.empty()) {  // words of a title stand below each other
      const std::size_t end = title.find(' ');
      widest = std::max(widest, text_width(title.substr(0, end), 13));
      title = end == std::string_view::npos ? std::string_view() : title.substr(end + 1);
    }
    for (const std::vector<std::string>& row : table.rows) widest = std::max(widest, text_width(row[i], 13));
    sum += std::min(widest, i == 0 ? 220.0 : 480.0) + 20;
  }
  return sum;
}

std::string section_text(const Section& section) {
  std::string out = fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n", escaped(section.id), escaped(section.title));
  for (const std::string& paragraph : section.paragraphs) out += "<p>" + escaped(paragraph) + "</p>\n";
  for (const std::string& command : section.commands) out += "<pre>" + escaped(command) + "</pre>\n";
  const bool figures = !section.drawings.empty();
  if (figures) {
    // A table that fits stands beside the figure, else below it.
    const bool beside = std::all_of(section.tables.begin(), section.tables.end(),
                                    [](const Table& table) { return width_of(table) <= 650; });
    out += fmt::format("<div class=\"{}\">\n<div class=\"figures\">\n", beside ? "pair" : "stack");
    for (const Drawing& drawing : section.drawings) out += "<figure>\n" + svg_element(drawing) + "</figure>\n";
    out += "</div>\n<div class=\"tables\">\n";
  }
  for (const Table& table : section.tables) out += table_text(table);
  if (figures) out += "</div>\n</div>\n";
  return out + "</section>\n";
}

}  // namespace

std::string page_text(const Page& page) {
  const std::string title = escaped(page.title);
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
      title, style);
  for (const std::string& paragraph : page.introduction) out += "<p>" + escaped(paragraph) + "</p>\n";
  out += "<nav aria-label=\"Contents\">\n<ul>\n";
  for (const Section& section : page.sections)
    out += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", escaped(section.id), escaped(section.title));
  out += "</ul>\n</nav>\n";
  for (const Section& section : page.sections) out += section_text(section);
  out += "<footer>\n";
  if (!page.left_out.empty()) {
    out += "<p>Left out:</p>\n<ul>\n";
    for (const std::string& part : page.left_out) out += "<li>" + escaped(part) + "</li>\n";
    out += "</ul>\n";
  }
  if (!page.command.empty()) out += "<p>This page was made by:</p>\n<pre>" + escaped(page.command) + "</pre>\n";
  return out + "</footer>\n</main>\n</body>\n</html>\n";
}

}  // namespace tqkv::measure

#include "measure/page/report.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "base/file.h"
#include "measure/report_example.h"
#include "measure/xml_check.h"
#include "support/failure.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::measure;
using nlohmann::json;
using test::contains;
using test::example_benchmark;
using test::example_evaluation;
using test::ExampleRun;

namespace {

const ExampleRun base{"baseline:bits=32", 32, 0, 0, 24};
const ExampleRun mlx{"mlx_quant:k=4:v=4:group=64", 4.5, 0.0079, 0.00024, 22};
const ExampleRun turbo{"turboquant:k=4:v=4:scalar=corrected:seed=0:table=1", 4.0625, 0.00463, 0.00021, 23};
const ExampleRun turbo2{"turboquant:k=2:v=2:scalar=corrected:seed=0:table=1", 2.0625, 0.09, 0.004, 10};

Report report_of(const std::vector<json>& files) {
  std::vector<ReportFile> sources;
  for (std::size_t i = 0; i < files.size(); ++i)
    sources.push_back({"file" + std::to_string(i) + ".json", files[i].dump()});
  return make_report(sources, "tqkv report file0.json --output report.html");
}

std::string refusal(const std::string& text) {
  const std::string message = test::failure(ErrorKind::input, [&] {
    make_report(std::vector<ReportFile>{{"bad.json", text}}, "");
  });
  CHECK(contains(message, "bad.json: "));
  return message;
}

std::string refusal(const json& file) {
  return refusal(file.dump());
}

bool has_section(const Report& report, const std::string& id) {
  return report.page.find("<section id=\"" + id + "\"") != std::string::npos;
}

std::string section(const Report& report, const std::string& id) {
  const std::size_t start = report.page.find("<section id=\"" + id + "\"");
  REQUIRE(start != std::string::npos);
  return report.page.substr(start, report.page.find("</section>", start) - start);
}

// Every text between `open` and the next `close`.
std::vector<std::string> between(const std::string& text, const std::string& open, const std::string& close) {
  std::vector<std::string> found;
  for (std::size_t at = 0; (at = text.find(open, at)) != std::string::npos;) {
    at += open.size();
    found.push_back(text.substr(at, text.find(close, at) - at));
  }
  return found;
}

// The cells of the row of `table` (of a section) that starts with `name`.
std::vector<std::string> row(const std::string& text, const std::string& name) {
  std::vector<std::string> cells;
  const std::size_t at = text.find("<th scope=\"row\" class=\"w\">" + name + "</th>");
  REQUIRE(at != std::string::npos);
  const std::string line = text.substr(at, text.find("</tr>", at) - at);
  for (const std::string& cell : between(line, "<td", "</td>")) cells.push_back(cell.substr(cell.find('>') + 1));
  return cells;
}

const ReportFigure* figure(const Report& report, const std::string& name) {
  const auto found =
      std::find_if(report.figures.begin(), report.figures.end(), [&](const ReportFigure& f) { return f.name == name; });
  return found == report.figures.end() ? nullptr : &*found;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

}  // namespace

TEST_CASE("a report of an evaluation and a benchmark is one well-formed page that fetches and runs nothing") {
  const Report report = report_of({example_evaluation({base, mlx, turbo, turbo2}), example_benchmark({0})});
  const test::XmlCheck page(report.page);
  CHECK(page.problem() == "");
  for (const char* element : {"script", "link", "img", "iframe", "object"})
    CHECK_MESSAGE(std::count(page.elements().begin(), page.elements().end(), element) == 0, element);
  for (const char* part : {"href=\"http", "src=", "url(", "@import", "javascript:"})
    CHECK_MESSAGE(report.page.find(part) == std::string::npos, part);
  for (const char* id : {"losses", "summary", "quality-f32", "position-f32", "recall", "needle", "speed-2048-128",
                         "bytes", "formats", "sources"})
    CHECK_MESSAGE(has_section(report, id), id);
  // Every link of the contents leads somewhere.
  const std::vector<std::string> links = between(report.page, "href=\"#", "\"");
  CHECK(links.size() >= 10);
  for (const std::string& link : links)
    CHECK_MESSAGE(std::find(page.ids().begin(), page.ids().end(), link) != page.ids().end(), link);
}

TEST_CASE("every figure of a report is a file of its own, the same as in the page, with a title and a description") {
  const Report report = report_of({example_evaluation({base, mlx, turbo, turbo2}), example_benchmark({0, 2048})});
  CHECK(report.figures.size() == 8);
  CHECK(count(report.page, "<svg ") == 8);
  for (const ReportFigure& own : report.figures) {
    const test::XmlCheck check(own.svg);
    CHECK_MESSAGE(check.problem() == "", own.name);
    CHECK(check.elements().front() == "svg");
    CHECK(std::count(check.elements().begin(), check.elements().end(), "title") == 1);
    CHECK(std::count(check.elements().begin(), check.elements().end(), "desc") == 1);
    CHECK(report.page.find(own.svg.substr(own.svg.find("<svg"))) != std::string::npos);
    CHECK(own.svg.find("nan") == std::string::npos);
    CHECK(own.svg.find("inf\"") == std::string::npos);
  }
}

TEST_CASE("the same files give the same page") {
  const std::vector<json> files = {example_evaluation({base, mlx, turbo}), example_benchmark({0})};
  const std::string page = report_of(files).page;
  CHECK(page == report_of(files).page);
  // Nor does it tell when it was made: no date, no time of a day, no seconds since 1970.
  for (const char* when :
       {"\\b(19|20)[0-9][0-9][-/.][0-9]{1,2}[-/.][0-9]{1,2}\\b", "\\b[0-9]{1,2}[.][0-9]{1,2}[.]20[0-9][0-9]\\b",
        "\\b[0-9]{1,2}:[0-9][0-9]\\b", "\\b1[6-9][0-9]{8}\\b",
        "\\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*,? +[0-9]",
        "[0-9] +(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"}) {
    std::smatch found;
    CHECK_MESSAGE(!std::regex_search(page, found, std::regex(when)), found.str());
  }
}

TEST_CASE("the numbers of the summary are those of the file") {
  const Report report = report_of({example_evaluation({base, mlx, turbo, turbo2})});
  const std::string summary = section(report, "summary");
  CHECK(row(summary, "mlx_quant") == std::vector<std::string>{"4.50", "1,152", "0.00790 ± 0.00024", "0.0632",
                                                              "96.40 ± 0.59 %", "1.00680 ± 0.00050", "22/24 = 91.7 %",
                                                              "-8.3 (-30.5 to +1.5)"});
  CHECK(row(summary, "turboquant 4") == std::vector<std::string>{"4.06", "1,040", "0.00463 ± 0.00021", "0.03704",
                                                                 "96.40 ± 0.59 %", "1.00680 ± 0.00050",
                                                                 "23/24 = 95.8 %", "-4.2 (-30.5 to +1.5)"});
  CHECK(row(summary, "baseline")[2] == "0");
  // Positions: mean KL grows by a half in each bucket of the example.
  const std::vector<std::string> positions = row(section(report, "position-f32"), "turboquant 4");
  CHECK(positions == std::vector<std::string>{"0.00463 ± 0.00021", "0.00694 ± 0.00021", "0.00926 ± 0.00021",
                                              "0.00463 ± 0.00021", "0.00694 ± 0.00021"});
  CHECK(contains(section(report, "summary"), "Uncompressed recall: 24/24 = 100.0 %, fast precision."));
  const std::vector<std::string> recall = row(section(report, "recall"), "turboquant 2");
  CHECK(recall == std::vector<std::string>{"10/12 (42–100 %)", "0/12 (0–100 %)", "10/24 (21–100 %)"});
  CHECK(contains(section(report, "recall"), "<td>-58.3 (-30.5 to -2.5)</td><td>14</td><td>0</td>"));
  const std::vector<std::string> needles = row(section(report, "needle"), "mlx_quant");
  CHECK(needles == std::vector<std::string>{"1K", "2/2", "2/2", "2/2"});
}

TEST_CASE("bytes and speeds of the tables are those of the file, to the byte") {
  const Report report = report_of({example_benchmark({0})});
  CHECK(row(section(report, "bytes"), "mlx_quant") ==
        std::vector<std::string>{"2,175", "2,505,600", "2,654,208", "3,145,728", "73,728", "5,873,664"});
  const std::vector<std::string> speed = row(section(report, "speed-2048-128"), "mlx_quant");
  CHECK(speed == std::vector<std::string>{"0", "3", "3,600 (3,420 – 3,960)", "0.90 (0.85 – 0.95)",
                                          "1,200 (1,140 – 1,320)", "1.50 (1.42 – 1.58)", "paired", "0.125", "0.0106",
                                          "93.8 %"});
  CHECK(contains(section(report, "losses"),
                 "Reads the prompt slower than baseline over the whole range measured: mlx_quant with 2,048 + 128 "
                 "tokens at depth 0, 0.90 (0.85 – 0.95) of its speed."));
  CHECK(contains(section(report, "sources"),
                 "tqkv benchmark pocket --backend baseline:bits=16,mlx_quant:k=4:v=4:group=64 "
                 "--prompt-tokens 2048 --generation-tokens 128 --trials 3 --device cpu:isa=avx512:threads=2 "
                 "--precision fast --state f32 --prefill-chunk 2048 --seed 7"));
}

TEST_CASE("the page says first which formats lose to a rival that is not larger") {
  const Report report = report_of({example_evaluation({base, mlx, turbo, turbo2})});
  const std::string losses = section(report, "losses");
  CHECK(report.page.find("<section") == report.page.find("<section id=\"losses\""));
  CHECK(contains(losses,
                 "By mean KL, with at least as many bits (f32 precision), these lose to another backend: mlx_quant to "
                 "turboquant 4."));
  CHECK(row(losses, "mlx_quant") ==
        std::vector<std::string>{"4.50", "0.00790 ± 0.00024", "turboquant 4", "4.06", "0.00463 ± 0.00021", "10.3"});
  CHECK(losses.find("turboquant 4</th>") == std::string::npos);
  CHECK(contains(losses, "Recall is lower than without compression, beyond the interval: turboquant 2 (-58.3"));

  // Within two standard errors nothing is said to lose.
  ExampleRun close = mlx;
  close.kl = 0.0049;
  const std::string calm = section(report_of({example_evaluation({close, turbo})}), "losses");
  CHECK(calm.find("these lose") == std::string::npos);
  CHECK(contains(calm, "Not told apart by two standard errors (f32 precision): mlx_quant and turboquant."));
  CHECK(contains(calm, "no format loses"));
}

TEST_CASE("the figure of quality marks the Pareto front and rivals of equal size") {
  const ExampleRun rival{"rotated_quant:k=4:v=4:group=64:seed=0", 4.5, 0.006, 0.0002, 22};
  const Report report = report_of({example_evaluation({base, mlx, turbo, turbo2, rival})});
  const std::string quality = section(report, "quality-f32");
  CHECK(row(quality, "turboquant 4") == std::vector<std::string>{"4.06", "0.00463 ± 0.00021", "yes", "none", "–"});
  CHECK(row(quality, "turboquant 2")[2] == "yes");
  const std::vector<std::string> loser = row(quality, "mlx_quant");
  CHECK(loser[2] == "no");
  CHECK(loser[3] == "rotated_quant");
  CHECK(loser[4] == "1.32x");
  CHECK(row(quality, "rotated_quant")[2] == "no");
  CHECK(contains(quality, "Without a mark: baseline (32.00 bits, 0 nats)."));
  CHECK(row(quality, "chunks of 256")[0] == "0.00110 ± 0.00010");
  const ReportFigure* drawn = figure(report, "quality-f32");
  REQUIRE(drawn != nullptr);
  CHECK(contains(drawn->svg,
                 "On the Pareto front: turboquant 2 with 2.06 bits and 0.09 nats and turboquant 4 with 4.06 bits"));
  CHECK(contains(drawn->svg, "chunks of 256"));
}

TEST_CASE("many formats share the colours of their backends, and lines go to a panel for each") {
  std::vector<ExampleRun> runs = {base};
  for (int i = 0; i < 24; ++i)
    runs.push_back({(i % 2 == 0 ? "turboquant:k=4:v=4:seed=" : "mlx_quant:k=4:v=4:group=") + std::to_string(i),
                    2 + 0.1 * i, 0.2 / (1 + i), 0.001, 20});
  const Report report = report_of({example_evaluation(runs)});
  CHECK(test::XmlCheck(report.page).problem() == "");
  CHECK(contains(figure(report, "position-f32")->svg, ">turboquant: mean KL, nats<"));
  CHECK(contains(figure(report, "position-f32")->svg, ">mlx_quant: mean KL, nats<"));
  CHECK(figure(report, "needle-2") != nullptr);  // maps go on in another figure
}

TEST_CASE("depths become lines, and a comparison without kinds of bytes says so") {
  const Report depths = report_of({example_benchmark({0, 2048, 8192})});
  CHECK(contains(figure(depths, "decode-speed")->svg, "<polyline"));
  CHECK(contains(figure(depths, "decode-speed")->svg, ">8K<"));
  CHECK(row(section(depths, "bytes"), "mlx_quant, 10,367 tokens")[0] == "10,367");

  const auto spread = [](double value) { return json{{"median", value}, {"min", value}, {"max", value}}; };
  json comparison = example_benchmark({0});
  comparison["kind"] = "comparison";
  comparison.erase("runs");
  comparison["files"] = {"a.json", "b.json"};
  comparison["unpaired"] = true;
  const json row_of_one = {
      {"format", "turboquant:k=4"},
      {"file", "a.json"},
      {"trials", 2},
      {"prompt_tps", spread(100)},
      {"generation_tps", nullptr},
      {"cache_bytes", 5},
      {"cache_bytes_used", 4},
      {"peak_memory_gb", 1.5},
      {"mean_kl", nullptr},
      {"same_top", nullptr},
      {"ratio_to_baseline", {{"paired", false}, {"prompt_tps", spread(0.5)}, {"generation_tps", nullptr}}}};
  const json length = {
      {"prompt_tokens", 16}, {"generation_tokens", 1}, {"depth", 0}, {"rows", json::array({row_of_one})}};
  comparison["lengths"] = json::array({length});
  const Report report = report_of({comparison});
  CHECK(row(section(report, "speed-16-1"), "turboquant") ==
        std::vector<std::string>{"0", "2", "100.0", "0.50", "–", "–", "unpaired", "1.500", "–", "–"});
  CHECK(figure(report, "decode-speed") == nullptr);
  CHECK(!has_section(report, "bytes"));
  CHECK(std::any_of(report.left_out.begin(), report.left_out.end(),
                    [](const std::string& part) { return part.find("bytes by kind") == 0; }));
  CHECK(contains(section(report, "sources"), "tqkv compare a.json b.json"));
}

TEST_CASE("parts without figures are left out and named") {
  json evaluation = example_evaluation({mlx, turbo});
  for (json& run : evaluation["runs"]) run["recall"] = nullptr;
  evaluation["reference"]["recall"] = nullptr;
  const Report report = report_of({evaluation});
  CHECK(!has_section(report, "recall"));
  CHECK(!has_section(report, "needle"));
  CHECK(!has_section(report, "codec"));
  CHECK(has_section(report, "quality-f32"));
  CHECK(report.left_out.size() == 4);
  for (const std::string& part : report.left_out) CHECK(contains(report.page, "<li>" + part + "</li>"));
  CHECK(row(section(report, "summary"), "turboquant")[6] == "–");

  json answers = example_evaluation({mlx, turbo});
  for (json& run : answers["runs"]) run["agreement"] = nullptr;
  const Report recall = report_of({answers});
  CHECK(!has_section(recall, "quality-f32"));
  CHECK(has_section(recall, "recall"));
}

TEST_CASE("two precisions have figures of their own, two evaluations of one setting stand together") {
  ExampleRun fast = turbo;
  fast.precision = "fast";
  const Report precisions = report_of({example_evaluation({mlx, turbo, fast})});
  CHECK(has_section(precisions, "quality-f32"));
  CHECK(has_section(precisions, "quality-fast"));

  const Report together = report_of({example_evaluation({mlx}), example_evaluation({turbo})});
  CHECK(row(section(together, "quality-f32"), "mlx_quant")[0] == "4.50");
  CHECK(row(section(together, "quality-f32"), "turboquant")[0] == "4.06");
  json other = example_evaluation({turbo});
  other["settings"]["text_digest"] = "b000";
  const Report apart = report_of({example_evaluation({mlx}), other});
  CHECK(has_section(apart, "quality-f32"));
  CHECK(has_section(apart, "quality-f32-2"));
  CHECK(test::XmlCheck(apart.page).problem() == "");
  // The same format twice in one figure: the files tell them apart.
  CHECK(row(section(report_of({example_evaluation({turbo}), example_evaluation({turbo})}), "quality-f32"),
            "turboquant (file1.json)")[0] == "4.06");
}

TEST_CASE("codec figures stand next to the theoretical bounds") {
  json evaluation = example_evaluation({turbo});
  for (const char* input : {"gaussian", "captured K"}) {
    for (const int bits : {2, 3, 4})
      evaluation["codec_level"].push_back(test::example_codec("turboquant:k=" + std::to_string(bits), input, bits));
  }
  const Report report = report_of({evaluation});
  CHECK(figure(report, "codec-gaussian") != nullptr);
  CHECK(figure(report, "codec-captured-k") != nullptr);
  const std::string codec = section(report, "codec");
  CHECK(contains(codec, "<td>0.03125 ± 0.00010</td>"));
  CHECK(contains(codec, "<td>0.0625</td><td>0.17</td><td>-0.0100 ± 0.0020</td><td>0.02</td>"));
}

TEST_CASE("whatever a file says is text on the page") {
  json evaluation = example_evaluation({mlx, turbo});
  const std::string evil = "<script>alert('x')</script>\"&\x01 --> ]]>";
  evaluation["runs"][0]["format"] = evil + ":k=4";
  evaluation["model"]["name"] = evil;
  evaluation["machine"]["cpu"] = evil;
  evaluation["command"] = evil;
  evaluation["settings"]["text"] = evil;
  evaluation["settings"][evil] = evil;
  evaluation["runs"][0]["layers"][0]["k"] = evil;
  evaluation["noise_floor"][0]["name"] = evil;
  evaluation["codec_level"].push_back(test::example_codec(evil, evil, 4));
  const Report report = report_of({evaluation});
  const test::XmlCheck page(report.page);
  CHECK(page.problem() == "");
  CHECK(std::count(page.elements().begin(), page.elements().end(), "script") == 0);
  for (const ReportFigure& own : report.figures) {
    CHECK(test::XmlCheck(own.svg).problem() == "");
    CHECK(own.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos);
  }
}

TEST_CASE("extreme numbers make a page, impossible ones are refused") {
  ExampleRun tiny = mlx, huge = turbo;
  tiny.kl = 1e-300;
  huge.kl = 1e4;
  huge.se = 1e5;
  huge.bits = 0.01;
  const Report report = report_of({example_evaluation({tiny, huge})});
  CHECK(test::XmlCheck(report.page).problem() == "");
  CHECK(report.page.find("nan") == std::string::npos);
  json file = example_evaluation({mlx});
  file["runs"][0]["agreement"]["all"]["kl"]["mean"] = 1e300;
  CHECK(contains(refusal(file), "runs[0].agreement.all.kl: 'mean' is 1e+300, a number from 0 to"));
  file["runs"][0]["agreement"]["all"]["kl"]["mean"] = -0.1;
  refusal(file);
  file["runs"][0]["agreement"]["all"]["kl"]["mean"] = "0.1";
  refusal(file);
  std::string text = example_evaluation({mlx}).dump();
  text.replace(text.find("0.0079"), 6, "1e999");
  refusal(text);
  text = example_evaluation({mlx}).dump();
  text.replace(text.find("0.0079"), 6, "NaN");
  CHECK(contains(refusal(text), "is not valid JSON"));
}

TEST_CASE("a file that is no measurement is refused with its name and what is wrong") {
  CHECK(contains(refusal(std::string()), "not valid JSON"));
  CHECK(contains(refusal(std::string("[1]")), "expected an object"));
  CHECK(contains(refusal(std::string("{}")), "has no 'kind': a file that 'tqkv evaluate', 'tqkv benchmark'"));
  refusal(std::string(100'000, '['));
  CHECK(contains(refusal(json{{"schema", 1}, {"kind", "comparison with llama.cpp"}}),
                 "is of the kind 'comparison with llama.cpp'"));
  json file = example_evaluation({mlx});
  file["schema"] = 2;
  CHECK(contains(refusal(file), "has schema 2, this version of tqkv reads schema 1"));
  file = example_evaluation({});
  CHECK(contains(refusal(file), "contains no runs"));
  file = example_benchmark({0});
  file["runs"] = json::array();
  CHECK(contains(refusal(file), "contains no runs"));
  file = example_benchmark({0});
  file["runs"][1]["trials"] = json::array();
  CHECK(contains(refusal(file), "runs[1] has no trials"));
  file = example_benchmark({0});
  file["runs"][0]["trials"][0]["cache"]["kv_used"] = 1e9;
  refusal(file);
  file = example_evaluation({mlx});
  file["runs"][0]["recall"]["total"]["right"] = 99;
  CHECK(contains(refusal(file), "runs[0].recall.total has more right answers than were asked for"));
  file = example_evaluation({mlx});
  file["runs"][0]["format"] = std::string(5000, 'x');
  refusal(file);
  file = example_evaluation({mlx});
  file["model"] = 7;
  CHECK(contains(refusal(file), "'model' is 7, an object was expected"));
  file = example_evaluation({mlx});
  file["runs"][0]["recall"]["tasks"][0]["task"] = "chess";
  CHECK(contains(refusal(file), "runs[0].recall.tasks[0]: 'task' is \"chess\", one of needle, table, "));
  file = example_evaluation({mlx});
  file["runs"][0].erase("precision");
  CHECK(contains(refusal(file), "runs[0] has no 'precision'"));
  test::failure(ErrorKind::usage, [] { make_report({}, ""); });
}

TEST_CASE(
    "no value can be taken out of a file or replaced by another kind so that anything but a refusal or a page comes") {
  const json whole = example_evaluation({mlx, turbo});
  std::vector<json::json_pointer> places;
  const json flat = whole.flatten();
  std::set<std::string> seen;
  for (const auto& [path, value] : flat.items()) {
    // Every prefix once: objects, lists and values alike.
    for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string prefix = path.substr(0, end);
      if (seen.insert(prefix).second && prefix.find("/runs/1") == std::string::npos) places.emplace_back(prefix);
      if (end == std::string::npos) break;
    }
  }
  REQUIRE(places.size() > 200);
  int pages = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const json replacements[] = {nullptr, -1, "text", json::array({1, "a"}), json::object()};
    json changed = whole;
    changed[places[i]] = replacements[i % 5];
    try {
      const Report report = report_of({changed});
      ++pages;
      CHECK_MESSAGE(test::XmlCheck(report.page).problem() == "", places[i].to_string());
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(contains(error.what(), "file0.json"));
    }
  }
  CHECK(pages > 10);
}

TEST_CASE("the committed benchmarks make a report") {
  const std::string folder = test::source_dir() + "/benchmarks/";
  std::vector<ReportFile> files;
  for (const char* name : {"pocket_paired_2048_128.json", "pocket_summary_128_8.json"})
    files.push_back({name, read_text(folder + name)});
  const Report report = make_report(files, "");
  CHECK(test::XmlCheck(report.page).problem() == "");
  CHECK(contains(section(report, "speed-2048-128"), "1.42 (1.29 – 1.49)"));
  CHECK(contains(section(report, "bytes"), "2,396,160"));
  CHECK(contains(section(report, "formats"), "affine 4 bit, group 64"));
}

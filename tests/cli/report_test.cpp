#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <string>

#include "base/file.h"
#include "measure/report_example.h"
#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"

using namespace tqkv;
using test::contains;
using test::run_tqkv;
namespace fs = std::filesystem;

namespace {

std::string evaluation(const test::TemporaryDirectory& folder) {
  return folder.write("q.json", test::example_evaluation({{"mlx_quant:k=4:v=4:group=64", 4.5, 0.0079, 0.0002},
                                                          {"turboquant:k=4:v=4", 4.0625, 0.0046, 0.0002}})
                                    .dump());
}

bool is_empty_or_absent(const fs::path& path) {
  return !fs::exists(path) || fs::is_empty(path);
}

}  // namespace

TEST_CASE("report writes one page and its figures, and says where they are and what is left out") {
  const test::TemporaryDirectory folder;
  const std::string file = evaluation(folder), page = (folder.path() / "made" / "report.html").string();
  const auto result =
      run_tqkv({"report", file, test::source_dir() + "/benchmarks/pocket_paired_2048_128.json", "--output", page});
  CHECK(result.exit_code == 0);
  CHECK(result.error.empty());
  CHECK(contains(result.output, "report.html: 8 figures, as SVG in "));
  CHECK(contains(result.output, "left out: the codecs alone"));
  const std::string text = read_text(page);
  CHECK(text.find("<!DOCTYPE html>") == 0);
  CHECK(contains(text, "tqkv report " + file));
  CHECK(contains(text, "--output " + page));
  int figures = 0;
  for (const auto& entry : fs::directory_iterator(folder.path() / "made" / "report")) {
    ++figures;
    CHECK(entry.path().extension() == ".svg");
    CHECK(contains(read_text(entry.path()), "<svg xmlns="));
  }
  CHECK(figures == 8);

  const fs::path other = folder.path() / "elsewhere";
  CHECK(run_tqkv({"report", file, "--output", page, "--figures", other.string()}).exit_code == 0);
  CHECK(fs::exists(other / "quality-f32.svg"));
}

TEST_CASE("two processes that are given the same files write the same bytes") {
  const test::TemporaryDirectory folder;
  const std::string file = evaluation(folder), page = (folder.path() / "report.html").string();
  const auto written = [&] {
    CHECK(run_tqkv({"report", file, test::source_dir() + "/benchmarks/pocket_paired_2048_128.json", "--output", page})
              .exit_code == 0);
    std::map<std::string, std::string> texts{{page, read_text(page)}};
    for (const auto& entry : fs::directory_iterator(folder.path() / "report"))
      texts[entry.path().filename().string()] = read_text(entry.path());
    return texts;
  };
  const auto first = written();
  CHECK(first.size() == 9);
  CHECK((first == written()));
}

TEST_CASE("report writes nothing when a file cannot be used, and says in one line which") {
  const test::TemporaryDirectory folder;
  const std::string good = evaluation(folder), page = (folder.path() / "report.html").string();
  for (const std::string& bad :
       {folder.write("broken.json", "{\"schema\": 1,"), folder.write("other.json", "{\"schema\":1,\"kind\":\"x\"}"),
        folder.write("empty.json", ""), (folder.path() / "absent.json").string()}) {
    const auto result = run_tqkv({"report", good, bad, "--output", page});
    CHECK(result.exit_code == 1);
    CHECK(result.output.empty());
    CHECK(contains(result.error, bad));
    CHECK(result.error.find('\n') == result.error.size() - 1);
    CHECK(!fs::exists(page));
    CHECK(is_empty_or_absent(folder.path() / "report"));
  }
}

TEST_CASE("report refuses an output that cannot be written before it reads anything") {
  const test::TemporaryDirectory folder;
  const std::string absent = (folder.path() / "absent.json").string();
  const std::string blocked = folder.write("file", "x") + "/report.html";
  const auto result = run_tqkv({"report", absent, "--output", blocked});
  CHECK(result.exit_code == 1);
  CHECK(contains(result.error, "file"));
  CHECK(result.error.find("absent.json") == std::string::npos);

  const std::string file = evaluation(folder);
  const std::string before = read_text(file);
  CHECK(run_tqkv({"report", file, "--output", file}).exit_code == 2);
  CHECK(read_text(file) == before);
  const std::string taken = folder.write("page", "not a folder"), page = (folder.path() / "page.html").string();
  CHECK(run_tqkv({"report", file, "--output", page}).exit_code == 1);
  CHECK(!fs::exists(page));
  CHECK(run_tqkv({"report", file}).exit_code == 2);
  CHECK(run_tqkv({"report", "--output", page}).exit_code == 2);
}

#include "measure/recall/set.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "support/failure.h"
#include "support/places.h"
#include "tqkv/error.h"
#include "tqkv/model.h"

using namespace tqkv;
using namespace tqkv::measure;
using test::contains;
using test::failure;

namespace {

const Checkpoint& pocket() {
  static const Checkpoint checkpoint = Checkpoint::open_without_weights(test::source_dir() + "/models/pocket");
  return checkpoint;
}
const Tokenizer& tokenizer() {
  static const Tokenizer tokenizer = open_tokenizer(pocket());
  return tokenizer;
}
const Markup& markup() {
  static const Markup markup(tokenizer(), *open_chat(pocket(), tokenizer()));
  return markup;
}

// Lines of prose, with odd ones in between.
std::string some_text(int lines) {
  std::string text;
  for (int i = 0; i < lines; ++i) {
    text += "Line " + std::to_string(i) + " of the report speaks about compilers, headers and templates.\n";
    if (i % 7 == 0) text += "    int x = " + std::to_string(i * 37) + ";  // größer, früher, später — naïve\n\n";
    if (i % 11 == 0) text += "The secret code of Ada is 4711.\n";
  }
  return text;
}

RecallOptions small(std::vector<RecallTask> tasks, std::vector<int> lengths) {
  RecallOptions options;
  options.tasks = std::move(tasks);
  options.lengths = std::move(lengths);
  options.answers = 1;
  return options;
}

std::string text_of(const PreparedContext& context) {
  return tokenizer().decode(context.ids);
}

}  // namespace

TEST_CASE("random choices are the documented function of their numbers") {
  Draws draws{0, 1, 1024, 0, 0};
  CHECK(draws.next() == 0xe274efaf355b9e5dull);
  CHECK(draws.next() == 0x42ffdc4fbb14c62cull);
  CHECK(draws.next() == 0x6c9bfd21db62a5d0ull);
  Draws below{7};
  for (const std::size_t expected : {72u, 64u, 54u, 60u, 34u}) CHECK(below.below(100) == expected);
  Draws sampled{8};
  std::vector<int> values(20);
  for (int i = 0; i < 20; ++i) values[static_cast<std::size_t>(i)] = i;
  const std::vector<int> sample = sampled.sample(values, 12);
  CHECK(std::set<int>(sample.begin(), sample.end()).size() == 12);
  CHECK(sampled.sample(values, 50).size() == 20);
}

TEST_CASE("the vocabulary has the frequent words of a text, of 4 to 10 small letters") {
  const measure::Vocabulary vocabulary(
      "header header template Template abc a_word words9 functional12 internationally header");
  CHECK(vocabulary.common() == std::vector<std::string>{"header", "template"});
  CHECK_FALSE(measure::Vocabulary("").common().empty());
}

TEST_CASE("questions about rooms ask for the last place, those about variables follow copies") {
  const measure::Vocabulary vocabulary("");
  Draws draws{3};
  const RecallLines rooms = make_lines(RecallTask::rooms, 60, vocabulary, draws);
  const auto asked = ask(RecallTask::rooms, rooms, 60, 20, draws);
  CHECK(asked.size() >= 3);
  for (const RecallQuestion& question : asked) {
    const std::string thing = question.question.substr(13, question.question.size() - 14);
    CAPTURE(thing);
    std::string last;
    for (std::size_t i = 0; i < 60; ++i)
      if (rooms.lines[i].find(thing) != std::string::npos) last = rooms.lines[i];
    CHECK(last.ends_with(" the " + question.value + "."));
    CHECK(question.answer == "The " + thing + " is in the " + question.value + ".");
  }

  RecallLines variables{"", "\n", {"x1 = 500", "x2 = x1", "x3 = x2", "x1 = 77", "x4 = x1", "x2 = x2"}, 3};
  std::map<std::string, std::string> values;
  for (const RecallQuestion& question : ask(RecallTask::variables, variables, 6, 9, draws))
    values[question.question] = question.value;
  CHECK(values.size() == 4);
  CHECK(values["What is the value of x1?"] == "77");
  CHECK(values["What is the value of x2?"] == "500");
  CHECK(values["What is the value of x3?"] == "500");
  CHECK(values["What is the value of x4?"] == "77");
}

TEST_CASE("questions about tables, pairs and lists have the wording of the training") {
  const measure::Vocabulary vocabulary("compiler");
  Draws draws{4};
  const RecallLines table = make_lines(RecallTask::table, 40, vocabulary, draws);
  CHECK(table.text(2).starts_with("Remember this table.\n"));
  for (const RecallQuestion& question : ask(RecallTask::table, table, 40, 8, draws)) {
    CHECK(question.question == "What is " + question.answer.substr(0, 5) + "?");
    CHECK(question.answer == question.answer.substr(0, 5) + " = " + question.value);
    CHECK(std::find(table.lines.begin(), table.lines.end(), question.answer) != table.lines.end());
  }
  const RecallLines numbered{"Here is a list.\n", "\n", {"1. amber falcon", "2. river copper"}, 2};
  for (const RecallQuestion& question : ask(RecallTask::numbered, numbered, 2, 8, draws)) {
    const bool first = question.question == "What is item 1?";
    CHECK(question.answer == (first ? "Item 1 is amber falcon." : "Item 2 is river copper."));
  }
  const RecallLines pairs = make_lines(RecallTask::pairs, 30, vocabulary, draws);
  std::set<std::string> left;
  for (const std::string& line : pairs.lines) left.insert(line.substr(0, line.find(' ')));
  CHECK(left.size() == pairs.lines.size());  // no word has two meanings
  for (const RecallQuestion& question : ask(RecallTask::pairs, pairs, pairs.lines.size(), 8, draws))
    CHECK(question.question == "What does " + question.answer.substr(0, question.answer.find(' ')) + " mean?");
}

TEST_CASE("needles stand at their depths, and every value is another") {
  const measure::Vocabulary vocabulary("");
  std::vector<std::string> taken;
  Draws draws{5};
  const auto needles = make_needles({0, 0.5, 1}, vocabulary, draws, taken);
  const auto more = make_needles({0, 0.25, 0.5, 0.75, 1}, vocabulary, draws, taken);
  CHECK(std::set<std::string>(taken.begin(), taken.end()).size() == 8);
  const std::vector<std::string> filler(10, "0123456789");
  const auto lines = hide(filler, needles);
  REQUIRE(lines.size() == 13);
  CHECK(lines[0] == needles[0].answer);
  CHECK(lines[6] == needles[1].answer);
  CHECK(lines[12] == needles[2].answer);
  const auto usable = Filler::usable(some_text(30));
  CHECK(std::none_of(usable.begin(), usable.end(),
                     [](const std::string& line) { return line.find("secret code") != std::string::npos; }));
}

TEST_CASE("an exact answer is the whole sentence, a value may stand in any") {
  const RecallQuestion question{"What is the badge number of Ada?", "The badge number of Ada is 4711.", "4711", 0};
  CHECK(is_right(question, " The badge number of Ada is 4711.\n", AnswerMatch::exact));
  CHECK_FALSE(is_right(question, "The badge number of Ada is 4711", AnswerMatch::exact));
  CHECK_FALSE(is_right(question, "", AnswerMatch::exact));
  CHECK(is_right(question, "It is **4711**.", AnswerMatch::value));
  CHECK(is_right(question, "4711", AnswerMatch::value));
  CHECK_FALSE(is_right(question, "It is 47110 or 14711.", AnswerMatch::value));
}

TEST_CASE("a needle context has exactly the tokens asked up to the question") {
  const std::string text = some_text(60);
  for (const int length : {200, 333, 512, 1024, 1999}) {
    CAPTURE(length);
    const auto contexts = make_recall_set(small({RecallTask::needle}, {length}), text, markup());
    REQUIRE(contexts.size() == 1);
    CHECK(contexts[0].ids.size() == static_cast<std::size_t>(length));
    CHECK(contexts[0].about.tokens == length);
    CHECK(contexts[0].questions.size() == 5);
    const std::string whole = text_of(contexts[0]);
    for (const PreparedQuestion& question : contexts[0].questions) CHECK(contains(whole, question.text.answer));
  }
}

TEST_CASE("a text that is too short for the context is followed by made-up sentences") {
  for (const char* text : {"", "One line alone.", "\xef\xbf\xbd\xef\xbf\xbd\n"}) {
    const auto contexts = make_recall_set(small({RecallTask::needle}, {700}), text, markup());
    CHECK(contexts[0].ids.size() == 700);
  }
}

TEST_CASE("a context and its questions are the ids of the whole chat prompt") {
  for (const PreparedContext& context : make_recall_set(small(all_recall_tasks(), {300}), some_text(40), markup())) {
    CAPTURE(name(context.about.task));
    CHECK(context.ids.size() <= 300);
    CHECK(context.about.questions == static_cast<int>(context.questions.size()));
    const std::string text = text_of(context);
    const std::string user = "<|im_start|>user\n";
    REQUIRE(text.starts_with(user));
    for (const PreparedQuestion& question : context.questions) {
      std::vector<ChatPiece> pieces = {{user, true},
                                       {text.substr(user.size()) + question.text.question, false},
                                       {"<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", true}};
      std::vector<int> ids = context.ids;
      ids.insert(ids.end(), question.ids.begin(), question.ids.end());
      CHECK(encode(tokenizer(), pieces) == ids);
    }
  }
}

TEST_CASE("lists hold as many lines as fit their length") {
  std::string text = some_text(40);
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'j'; ++b) text += std::string(" wor") + a + b;  // pairs take no word twice
  }
  for (const RecallTask task : {RecallTask::table, RecallTask::rooms, RecallTask::variables, RecallTask::pairs}) {
    CAPTURE(name(task));
    const auto contexts = make_recall_set(small({task}, {600}), text, markup());
    CHECK(contexts[0].ids.size() <= 600);
    CHECK(contexts[0].ids.size() > 570);
    std::set<std::string> questions;
    for (const PreparedQuestion& question : contexts[0].questions) questions.insert(question.text.question);
    CHECK(questions.size() == contexts[0].questions.size());
  }
}

TEST_CASE("whole rounds are asked until there are enough answers, the same on every run") {
  RecallOptions options = small(all_recall_tasks(), {256, 512});
  options.answers = 64;
  options.questions = 6;
  const std::string text = some_text(60);
  const auto contexts = make_recall_set(options, text, markup());
  int asked = 0;
  std::set<std::string> values;
  std::size_t needles = 0;
  for (const PreparedContext& context : contexts) {
    asked += context.about.questions;
    if (context.about.task != RecallTask::needle) continue;
    for (const PreparedQuestion& question : context.questions) values.insert(question.text.value);
    needles += context.questions.size();
  }
  CHECK(asked >= 64);
  CHECK(contexts.back().about.round == 1);
  CHECK(contexts.size() == 2 * (2 + 5));
  CHECK(values.size() == needles);  // one value a cell
  CHECK(digest_of(contexts) == digest_of(make_recall_set(options, text, markup())));
  options.seed = 1;
  CHECK(digest_of(contexts) != digest_of(make_recall_set(options, text, markup())));
}

TEST_CASE("a length that is too short for its task is refused") {
  const std::string message =
      failure(ErrorKind::usage, [] { make_recall_set(small({RecallTask::needle}, {40}), some_text(9), markup()); });
  CHECK(contains(message, "needle"));
  failure(ErrorKind::usage, [] { make_recall_set(small({RecallTask::table}, {16}), some_text(9), markup()); });
}

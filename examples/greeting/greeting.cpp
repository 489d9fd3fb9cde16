// Asks a model one question through the library: greeting [MODEL] [QUESTION].
#include <tqkv/tqkv.h>

#include <iostream>

int main(int argc, char** argv) try {
  const char* name = argc > 1 ? argv[1] : "pocket";
  const char* question = argc > 2 ? argv[2] : "Hi, what can you help me with?";

  tqkv::Model model = tqkv::Model::open(name);
  const tqkv::SessionOptions room{.context = 1024};
  tqkv::require_fit(model.plan(tqkv::KvFormat::usual(), {.session = room}));
  const auto session = model.load().open(tqkv::KvFormat::usual(), room);

  const tqkv::ChatOptions chat{.think = false};
  tqkv::GenerateOptions options = model.answer_options(chat);
  options.max_tokens = 256;
  const auto show = [](tqkv::Part, std::string_view text) { std::cout << text << std::flush; };
  tqkv::generate(*session, model.tokenizer(), model.prompt(question, chat), options, show);
  std::cout << '\n';
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}

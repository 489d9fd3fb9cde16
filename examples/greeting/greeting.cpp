// Asks a model one question through the library: greeting [MODEL] [QUESTION].
#include <tqkv/tqkv.h>

#include <iostream>

int main(int argc, char** argv) try {
  const char* model = argc > 1 ? argv[1] : "pocket";
  const char* question = argc > 2 ? argv[2] : "Hi, what can you help me with?";

  const auto engine = tqkv::Engine::load(tqkv::Checkpoint::open(tqkv::locate_model(model)));
  const auto tokenizer = tqkv::open_tokenizer(engine->checkpoint());
  const auto chat = tqkv::open_chat(engine->checkpoint(), tokenizer).value();
  const auto defaults = tqkv::open_defaults(engine->checkpoint(), engine->config());

  const auto session = engine->open(tqkv::KvFormat::usual(), {.context = 1024});
  const auto prompt = tqkv::encode(tokenizer, chat.render(tqkv::user_message(question), {.think = false}));
  const tqkv::GenerateOptions options{.sampling = defaults.sampling, .stop_ids = defaults.stop_ids, .max_tokens = 256};
  std::cout << tqkv::generate(*session, tokenizer, prompt, options).answer << '\n';
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}

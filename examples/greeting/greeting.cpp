// Asks a model one question through the library: greeting [MODEL] [QUESTION].
#include <tqkv/tqkv.h>
#include <algorithm>
#include <iostream>

int main(int argc, char** argv) try {
  const std::string model = argc > 1 ? argv[1] : "pocket",
                    question = argc > 2 ? argv[2] : "Hi, what can you help me with?";
  const auto engine = tqkv::Engine::load(tqkv::Checkpoint::open(tqkv::locate_model(model)));
  const auto& files = engine->checkpoint();
  const auto tokenizer = tqkv::Tokenizer::parse(files.text("tokenizer.json").value_or(""),
                                                files.text("tokenizer_config.json").value_or(""), model);
  const auto markup = tqkv::ChatTemplate::detect(files.text("chat_template.jinja").value_or(""), tokenizer);
  if (!markup) throw tqkv::Error(tqkv::ErrorKind::chat, model + ": its chat template is not Qwen markup");

  tqkv::Conversation conversation{R"([{"role": "user", "content": ")" + question + "\"}]", ""};
  const auto prompt = tqkv::encode(tokenizer, markup->render(conversation, {}));

  const auto session = engine->open(tqkv::KvFormat::parse("turboquant:bits=3.5"), {.context = 1024});
  tqkv::StreamingDetokenizer text(tokenizer);
  auto logits = session->prefill(prompt);
  for (int i = 0; i < 128; ++i) {
    const int id = static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const auto& stops = engine->config().eos_token_ids;
    if (std::find(stops.begin(), stops.end(), id) != stops.end()) break;
    std::cout << text.push(id) << std::flush;
    logits = session->decode(id);
  }
  std::cout << text.finish() << '\n';
} catch (const tqkv::Error& error) {
  std::cerr << error.what() << '\n';
  return error.exit_code();
}

// tokenizer.json as bytes: it is refused with an Error, or encodes and decodes.
#include <cstdint>
#include <string_view>

#include "tqkv/error.h"
#include "tqkv/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    // The same bytes stand for both files, so that both readers are reached.
    const tqkv::Tokenizer tokenizer = tqkv::Tokenizer::parse(bytes, bytes, "tokenizer.json");
    for (const std::string_view text :
         {std::string_view("I'm 12, <|im_end|> e\u0301 \xff\n\n"), bytes.substr(0, 256)}) {
      tqkv::StreamingDetokenizer stream(tokenizer);
      const auto ids = tokenizer.encode(text, tqkv::ControlStrings::parse);
      for (const int id : ids) stream.push(id);
      stream.finish();
      tokenizer.decode(ids);
    }
  } catch (const tqkv::Error&) {
  }
  return 0;
}

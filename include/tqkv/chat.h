// Chat markup of Qwen3.5 and Qwen3.6, rendered without a template engine. Implemented in src/text.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/tokenizer.h"

namespace tqkv {

/// Told from the checkpoint's own template.
enum class ChatVariant {
  qwen3_5,           ///< thinks unless asked not to
  qwen3_5_no_think,  ///< the small 3.5 models: thinks only when asked
  qwen3_6,           ///< keeps all reasoning with preserve_thinking; arguments that are not strings are JSON
  plain              ///< a model that does not think (pocket): closed think block, no tools
};

/// A piece of rendered text; `control` pieces are markup, the others are user text in which control strings are text.
struct ChatPiece {
  std::string text;
  bool control = false;
};

struct ChatOptions {
  std::optional<bool> think;  ///< nothing: the variant's default
  bool add_generation_prompt = true;
  bool preserve_thinking = false;  ///< 3.6
};

/// A conversation as JSON text: an array of messages, and optionally an array of tools.
struct Conversation {
  std::string messages;
  std::string tools;  ///< empty: none
};

/// A conversation of one message, from the user, and of a system message before it where one is given. Invalid UTF-8
/// becomes U+FFFD: `replaced`, when given, grows by the number of replacements.
Conversation user_message(std::string_view text, std::optional<std::string_view> system = {}, int* replaced = nullptr);

class ChatTemplate {
 public:
  /// Knows the official templates of Qwen3.5 and Qwen3.6 and that of pocket by a hash that blanks and line ends do not
  /// change. Of any other whose roles and markers are ChatML's, the nearest variant is taken, and `about` is one line
  /// that says so. Nothing when roles or markers differ, or the tokenizer lacks the markers: `about` says what.
  static std::optional<ChatTemplate> detect(std::string_view chat_template, const Tokenizer& tokenizer,
                                            std::string* about = nullptr);
  /// By the name of its markup: qwen3.5, qwen3.6 or chatml (roles as they are, no thinking, no tools).
  static std::optional<ChatTemplate> named(std::string_view markup);
  explicit ChatTemplate(ChatVariant variant) : variant_(variant) {}
  ChatVariant variant() const { return variant_; }

  /// Throws Error(chat) with the place of the message and the official template's own words for a conversation it
  /// refuses.
  std::vector<ChatPiece> render(const Conversation& conversation, const ChatOptions& options) const;
  /// Whether the generation prompt leaves a think block open for the model to fill.
  bool opens_thinking(const ChatOptions& options) const;

 private:
  ChatVariant variant_;
  bool think_block_ = true;  // plain: whether the template's generation prompt holds a closed think block
};

/// A call of a tool that an answer asks for.
struct ParsedToolCall {
  std::string name;
  std::string arguments;  ///< a JSON object
};

/// An answer without its tool calls.
struct ParsedAnswer {
  std::string content;  ///< the other text; without the blanks around it where there are calls
  std::vector<ParsedToolCall> calls;
};

/// Takes the tool calls out of an answer: <tool_call> with <function=NAME> and <parameter=KEY> blocks in it, as Qwen3.5
/// writes them. `tools` is the JSON array that the model was given ("": none). A value becomes a number, a boolean,
/// null, an array or an object where its parameter is declared as one and the text is one; otherwise it is a string.
/// What is no whole call stays in the content.
ParsedAnswer parse_tool_calls(std::string_view answer, std::string_view tools);

/// The rendered text in one piece.
std::string text_of(const std::vector<ChatPiece>& pieces);
/// Ids of a rendered conversation: control strings inside user text stay text.
std::vector<int> encode(const Tokenizer& tokenizer, const std::vector<ChatPiece>& pieces, int* replaced = nullptr);

}  // namespace tqkv

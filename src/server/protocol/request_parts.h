// Parts of requests that several endpoints share.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>

#include "server/protocol/fields.h"
#include "server/protocol/request.h"

namespace tqkv::server {

/// temperature, top_p, top_k, min_p and the penalties, as every endpoint takes them; seed, ignore_eos.
void read_sampling(Fields& fields, Request& request);
/// A text or up to 16.
void read_stop(Fields& fields, std::string_view name, Request& request);
void read_logit_bias(Fields& fields, Request& request);
/// `most` from 1; -1, as some clients write it, and an absent member: no limit.
std::optional<int> read_max_tokens(Fields& fields, std::string_view name);
/// stream and stream_options.
void read_stream(Fields& fields, Request& request);
/// chat_template_kwargs.
void read_template_arguments(Fields& fields, Request& request);
/// A word of effort: none turns thinking off, others turn it on.
void read_effort(Fields& fields, std::string_view name, Request& request);
/// {"type": "text" | "json_object" | "json_schema"}; `wrapped`: the schema lies in a member json_schema.
void read_format(Fields& fields, std::string_view name, bool wrapped, Request& request);
/// Our own object.
void read_tqkv(Fields& fields, Request& request);
/// Fields of other servers by which output would be held to a form: to ignore them would be a wrong answer.
void refuse_foreign_grammars(Fields& fields);
/// store: nothing is kept, so that true is noted.
void note_store(Fields& fields, Request& request);
/// Adds a word for the log: once, and 20 at most.
void note(std::vector<std::string>& words, std::string_view word);
/// Notes the fields that nobody read.
void note_unread(const Fields& fields, Request& request);

/// What stands between the parts of a message in the formats of responses and messages.
inline constexpr std::string_view between_parts = "\n\n";

/// The text of a message's content: a string, null, or parts whose type is in `types`, joined with `between`.
std::string read_content(const Json* content, const std::string& where, std::initializer_list<std::string_view> types,
                         std::string_view between);

/// Tools in the form that prompts show: {"type":"function","function":{name, description, parameters}}.
class Tools {
 public:
  /// Throws ApiError for a name that the markup cannot hold or that comes twice.
  void add(Json tool, const std::string& name, const std::string& where);
  bool has(std::string_view name) const { return names_.contains(name); }
  bool empty() const { return names_.empty(); }
  std::string text() const { return empty() ? std::string() : print(tools_); }

 private:
  Json tools_ = Json::array();
  std::set<std::string, std::less<>> names_;
};

/// `choice` must be possible with `tools`. With none, the prompt shows no tools.
void choose_tool(ToolChoice choice, std::string name, const std::string& where, const Tools& tools, Request& request);

/// tool_choice where it is a word: auto, none or required.
void read_tool_word(Fields& fields, const Tools& tools, Request& request);

/// Arguments of an earlier call, which are a JSON object printed as a string, or nothing at all.
Json read_arguments(const std::string& arguments, const std::string& where);

}  // namespace tqkv::server

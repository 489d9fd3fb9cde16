#include "server/protocol/request_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tqkv::server {
namespace {

constexpr int most_stops = 16;
constexpr std::size_t longest_stop = 1024;

std::optional<float> read_float(Fields& fields, std::string_view name, double least, double most) {
  const std::optional<double> value = fields.number(name, least, most);
  return value ? std::optional<float>(static_cast<float>(*value)) : std::nullopt;
}

/// A number above 0; one so small that it is 0 as a float is not.
std::optional<float> read_positive(Fields& fields, std::string_view name, double most) {
  const std::optional<float> value = read_float(fields, name, 0, most);
  if (value && *value == 0.0f) fields.wrong(name, fmt::format("a number above 0 and up to {}", most));
  return value;
}

}  // namespace

Sampling SamplingOverrides::over(Sampling defaults) const {
  const auto set = [](auto& value, const auto& said) {
    if (said) value = *said;
  };
  if (temperature) defaults.greedy = false;
  set(defaults.temperature, temperature);
  set(defaults.top_p, top_p);
  set(defaults.top_k, top_k);
  set(defaults.min_p, min_p);
  set(defaults.repetition_penalty, repetition_penalty);
  set(defaults.presence_penalty, presence_penalty);
  set(defaults.frequency_penalty, frequency_penalty);
  return defaults;
}

std::string_view Request::tools() const {
  const Conversation* conversation = std::get_if<Conversation>(&prompt);
  return conversation ? std::string_view(conversation->tools) : std::string_view();
}

void read_sampling(Fields& fields, Request& request) {
  SamplingOverrides& sampling = request.sampling;
  sampling.temperature = read_float(fields, "temperature", 0, 100);
  sampling.top_p = read_positive(fields, "top_p", 1);
  sampling.min_p = read_float(fields, "min_p", 0, 1);
  sampling.repetition_penalty = read_positive(fields, "repetition_penalty", 100);
  sampling.presence_penalty = read_float(fields, "presence_penalty", -2, 2);
  sampling.frequency_penalty = read_float(fields, "frequency_penalty", -2, 2);
  // -1 is how others write "all".
  if (const auto top_k = fields.integer("top_k", -1, std::numeric_limits<int>::max()))
    sampling.top_k = static_cast<int>(std::max<std::int64_t>(*top_k, 0));
  if (const Json* seed = fields.get("seed")) {
    const std::optional<std::int64_t> number = whole(*seed);
    if (number) {
      request.seed = static_cast<std::uint64_t>(*number);
    } else if (seed->is_number_unsigned()) {
      request.seed = seed->get<std::uint64_t>();
    } else {
      fields.wrong("seed", "an integer of 64 bits");
    }
  }
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
}

void read_stop(Fields& fields, std::string_view name, Request& request) {
  const Json* stop = fields.get(name);
  if (!stop) return;
  const Json list = stop->is_array() ? *stop : Json::array({*stop});
  if (list.size() > most_stops) fields.wrong(name, fmt::format("at most {} strings", most_stops));
  for (const Json& one : list) {
    if (!one.is_string()) fields.wrong(name, "a string or an array of strings");
    const std::string& text = one.get_ref<const std::string&>();
    if (text.empty() || text.size() > longest_stop)
      throw bad_request(fields.path(name), fmt::format("{}: a string must have from 1 to {} bytes, this one has {}.",
                                                       fields.path(name), longest_stop, text.size()));
    request.stop.push_back(text);
  }
}

void read_logit_bias(Fields& fields, Request& request) {
  const Json* bias = fields.object("logit_bias");
  if (!bias) return;
  for (const auto& [key, value] : bias->items()) {
    const bool digits = !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!digits)
      throw bad_request(fields.path("logit_bias"), fmt::format("{} must have ids of tokens as keys, not {}.",
                                                               fields.path("logit_bias"), in_quotes(key)));
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100))
      throw bad_request(fields.path("logit_bias"), fmt::format("{} of {} must be a number from -100 to 100.",
                                                               fields.path("logit_bias"), in_quotes(key)));
    request.logit_bias.emplace_back(std::stoi(key), value.get<float>());
  }
}

std::optional<int> read_max_tokens(Fields& fields, std::string_view name) {
  const Json* value = fields.get(name);
  if (!value || whole(*value) == -1) return std::nullopt;
  return static_cast<int>(*fields.integer(name, 1, std::numeric_limits<int>::max()));
}

void read_stream(Fields& fields, Request& request) {
  request.stream = fields.boolean("stream").value_or(false);
  if (const Json* options = fields.object("stream_options")) {
    Fields inside(*options, fields.path("stream_options"));
    request.include_usage = inside.boolean("include_usage").value_or(false);
    inside.skip({"include_obfuscation"});
    note_unread(inside, request);
  }
}

void read_template_arguments(Fields& fields, Request& request) {
  const Json* arguments = fields.object("chat_template_kwargs");
  if (!arguments) return;
  Fields inside(*arguments, fields.path("chat_template_kwargs"));
  if (const auto think = inside.boolean("enable_thinking")) request.think = think;
  request.preserve_thinking = inside.boolean("preserve_thinking").value_or(false);
  note_unread(inside, request);
}

void read_effort(Fields& fields, std::string_view name, Request& request) {
  const std::optional<std::string> effort = fields.text(name);
  if (!effort) return;
  constexpr std::string_view words[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
  if (std::find(std::begin(words), std::end(words), *effort) == std::end(words))
    throw bad_request(fields.path(name),
                      fmt::format("{} must be none, minimal, low, medium, high, xhigh or max, not {}.",
                                  fields.path(name), in_quotes(*effort)));
  request.think = *effort != "none";
}

void read_format(Fields& fields, std::string_view name, bool wrapped, Request& request) {
  const Json* format = fields.object(name);
  if (!format) return;
  Fields inside(*format, fields.path(name));
  const std::string type = inside.required_text("type");
  if (type == "json_object") {
    request.format = ResponseFormat::json_object;
  } else if (type == "json_schema") {
    const Json* holder = format;
    std::string where = fields.path(name);
    if (wrapped) {
      holder = inside.object("json_schema");
      if (!holder) inside.wrong("json_schema", "an object");
      where = inside.path("json_schema");
    }
    Fields schema(*holder, where);
    schema.skip({"type", "name", "description", "strict"});
    const Json* value = schema.get("schema");
    if (!value || !(value->is_object() || value->is_boolean())) schema.wrong("schema", "a JSON schema");
    request.format = ResponseFormat::json_schema;
    request.schema = print(*value);
  } else if (type != "text") {
    throw bad_request(inside.path("type"), fmt::format("{} must be text, json_object or json_schema, not {}.",
                                                       inside.path("type"), in_quotes(type)));
  }
}

void read_tqkv(Fields& fields, Request& request) {
  const Json* ours = fields.object("tqkv");
  if (!ours) return;
  Fields inside(*ours, fields.path("tqkv"));
  request.exact = inside.boolean("exact").value_or(false);
  request.cache = inside.text("cache").value_or("");
  const std::vector<std::string> unread = inside.unread();
  if (!unread.empty())
    throw bad_request(unread[0], fmt::format("{} is not known: tqkv has exact and cache.", unread[0]));
}

void refuse_foreign_grammars(Fields& fields) {
  fields.refuse({"grammar", "json_schema", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
                 "structured_outputs", "regex", "ebnf"},
                "use response_format");
}

void note_store(Fields& fields, Request& request) {
  if (fields.boolean("store").value_or(false)) note(request.ignored, fields.path("store"));
}

void note(std::vector<std::string>& words, std::string_view word) {
  std::string one = shortened(word, 80);
  if (words.size() < 20 && std::find(words.begin(), words.end(), one) == words.end()) words.push_back(std::move(one));
}

void note_unread(const Fields& fields, Request& request) {
  for (const std::string& name : fields.unread()) note(request.ignored, name);
}

std::string read_content(const Json* content, const std::string& where, std::initializer_list<std::string_view> types,
                         std::string_view between) {
  if (!content || content->is_null()) return {};
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array())
    throw bad_request(where,
                      fmt::format("{} must be a string or an array of parts, not {}.", where, kind_of(*content)));
  std::string text;
  for (std::size_t i = 0; i < content->size(); ++i) {
    Fields part((*content)[i], fmt::format("{}[{}]", where, i));
    const std::string type = part.required_text("type");
    if (std::find(types.begin(), types.end(), type) == types.end())
      throw bad_request(part.path("type"),
                        fmt::format("{}: a part of type {} cannot be read here. This model reads text.",
                                    part.path("type"), in_quotes(type)));
    if (i > 0) text += between;
    text += part.required_text(type == "refusal" ? "refusal" : "text");
  }
  return text;
}

void Tools::add(Json tool, const std::string& name, const std::string& where) {
  if (name.empty() || name.size() > 256 || name.find_first_of("<>\r\n") != std::string::npos)
    throw bad_request(where, fmt::format("{} must have from 1 to 256 bytes and none of < > and line ends, not {}.",
                                         where, in_quotes(name)));
  if (!names_.insert(name).second)
    throw bad_request(where, fmt::format("{}: two tools are called {}.", where, in_quotes(name)));
  tools_.push_back(std::move(tool));
}

void choose_tool(ToolChoice choice, std::string name, const std::string& where, const Tools& tools, Request& request) {
  if (tools.empty() && (choice == ToolChoice::required || choice == ToolChoice::named))
    throw bad_request(where, fmt::format("{} wants a call, but there are no tools.", where));
  if (choice == ToolChoice::named && !tools.has(name))
    throw bad_request(where, fmt::format("{}: there is no tool {}.", where, in_quotes(name)));
  request.tool_choice = choice;
  request.tool_name = std::move(name);
  if (choice != ToolChoice::none) std::get<Conversation>(request.prompt).tools = tools.text();
}

void read_tool_word(Fields& fields, const Tools& tools, Request& request) {
  const std::string where = fields.path("tool_choice");
  const std::string word = fields.text("tool_choice").value_or("auto");
  if (word != "auto" && word != "none" && word != "required")
    throw bad_request(
        where, fmt::format("{} must be auto, none, required or name a function, not {}.", where, in_quotes(word)));
  choose_tool(word == "none"       ? ToolChoice::none
              : word == "required" ? ToolChoice::required
                                   : ToolChoice::automatic,
              "", where, tools, request);
}

Json read_arguments(const std::string& arguments, const std::string& where) {
  if (arguments.find_first_not_of(" \t\r\n") == std::string::npos) return Json::object();
  Json value = parse_json(arguments, where, where);
  if (!value.is_object())
    throw bad_request(where, fmt::format("{} must be a JSON object, not {}.", where, kind_of(value)));
  return value;
}

}  // namespace tqkv::server

// Calls of tools: their parameters as tags with texts between them.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "grammar/schema.h"

namespace tqkv {
namespace {

using namespace grammar;

constexpr std::string_view blanks = " \t\r\n", closing = "</parameter>";

/// A name that can stand in <function=NAME> and <parameter=NAME>.
void check_name(const std::string& name, const std::string& where) {
  if (name.empty() || name.size() > 256 ||
      std::any_of(name.begin(), name.end(), [](char c) { return c == '<' || c == '>' || (c >= 0 && c < 0x20); }))
    refuse(where, "a name must have 1 to 256 bytes, and no \"<\", \">\" or control characters");
}

/// Whether a text would be read as something else than a string where other types are declared too.
bool reads_as_other(std::string text) {
  text.erase(0, std::min(text.find_first_not_of(blanks), text.size()));
  text.erase(text.find_last_not_of(blanks) + 1);  // npos + 1 is 0
  return text == "True" || text == "False" || text == "None" || (Json::accept(text) && !Json::parse(text).is_string());
}

/// Makes of what a value of the parameter can be what the markup can say: JSON, or a text where it can be a string. A
/// text that looks like another type of the parameter is read as that, so that all values of such a type must do.
class ParameterForms {
 public:
  explicit ParameterForms(Grammar::Impl& impl) : impl_(impl) {}

  void apply(std::uint32_t parameter) {
    std::vector<std::uint32_t> leaves, others;
    const std::vector<std::uint32_t> all = impl_.nodes[parameter].leaves;
    for (const std::uint32_t leaf : all) {
      const Node& node = impl_.nodes[leaf];
      if (node.kind == NodeKind::string)
        leaves.push_back(add_raw(node));
      else if (node.kind == NodeKind::literals && !node.strings.empty())
        leaves.push_back(add_texts(node, all.size() > 1 || node.strings.size() < node.trie.below(0).size()));
      else
        others.push_back(leaf);
    }
    if (leaves.empty()) return;
    for (const std::uint32_t leaf : others)
      if (!takes_all(impl_.nodes[leaf]))
        refuse(impl_.nodes[parameter].where,
               "a parameter that may be a string may have no other type with bounds, properties or items");
    impl_.nodes[parameter].leaves = std::move(leaves);
  }

 private:
  /// A copy: the string may be a part of other values too.
  std::uint32_t add_raw(Node node) {
    node.kind = NodeKind::raw;
    return add(std::move(node));
  }

  std::uint32_t add_texts(Node node, bool among_others) {
    node.trie = Trie();
    std::uint32_t index = 0;
    for (const std::string& text : node.strings) {
      if (text.find(closing) != std::string::npos) refuse(node.where, "a value contains </parameter>");
      if (among_others && reads_as_other(text))
        refuse(node.where, fmt::format("the text \"{}\" would be read as another type", text.substr(0, 40)));
      node.trie.add(text, index++);
    }
    return add(std::move(node));
  }

  std::uint32_t add(Node node) {
    const auto id = static_cast<std::uint32_t>(impl_.nodes.size());
    node.leaves = {id};
    node.depth = 0;
    impl_.nodes.push_back(std::move(node));
    return id;
  }

  /// Whether every value of its types is one of its own.
  bool takes_all(const Node& node) const {
    switch (node.kind) {
      case NodeKind::literals:
      case NodeKind::number:
        return true;
      case NodeKind::range:
        return node.range.places == 0 && node.range.low == any_integer.low && node.range.high == any_integer.high;
      case NodeKind::object:
        return node.properties.empty() && node.extra != no_node && impl_.nodes[node.extra].leaves.size() == 5;
      case NodeKind::array:
        return node.prefix.empty() && node.least == 0 && node.most == unbounded && node.items != no_node &&
               impl_.nodes[node.items].leaves.size() == 5;
      default:
        return false;
    }
  }

  Grammar::Impl& impl_;
};

struct Tool {
  std::string name;
  const Json* parameters;  // null: none
};

std::vector<Tool> read_tools(const Json& document, std::optional<std::string_view> wanted) {
  if (!document.is_array()) refuse("tools", "it must be a list of tools");
  std::vector<Tool> tools;
  for (std::size_t i = 0; i < document.size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    const Json& entry = document[i];
    const auto wrapped = entry.is_object() ? entry.find("function") : entry.end();
    const Json& declared = wrapped != entry.end() && wrapped->is_object() ? *wrapped : entry;
    if (!declared.is_object()) refuse(where, "a tool must be an object");
    const auto name = declared.find("name");
    if (name == declared.end() || !name->is_string()) refuse(where, "the tool has no name");
    const auto parameters = declared.find("parameters");
    Tool tool{name->get<std::string>(), parameters == declared.end() || parameters->is_null() ? nullptr : &*parameters};
    check_name(tool.name, where);
    if (std::any_of(tools.begin(), tools.end(), [&](const Tool& other) { return other.name == tool.name; }))
      refuse(where, fmt::format("a tool before it has the name {}, too", tool.name));
    tools.push_back(std::move(tool));
  }
  if (wanted) std::erase_if(tools, [&](const Tool& tool) { return tool.name != *wanted; });
  if (tools.empty())
    refuse("tools", wanted ? fmt::format("none of them is called {}", wanted->substr(0, 80)) : "the list is empty");
  return tools;
}

}  // namespace

Grammar Grammar::tool_calls(std::string_view tools, std::optional<std::string_view> name, bool parallel) {
  const Json document = parse_document(tools, "tools", 1024 * 1024);
  auto impl = std::make_shared<Impl>();
  impl->markup = true;
  Node calls;
  calls.kind = NodeKind::calls;
  calls.parallel = parallel;
  for (const Tool& tool : read_tools(document, name)) {
    const std::string where = fmt::format("tools: parameters of {}", tool.name);
    const std::size_t first_new = impl->nodes.size();
    Node own;
    own.kind = NodeKind::tool;
    if (tool.parameters) {
      SchemaCompiler compiler(*impl, *tool.parameters, where);
      const std::uint32_t root = compiler.node_of(*tool.parameters, "");
      compiler.compile();
      complete(*impl, first_new);
      const std::vector<std::uint32_t> leaves = impl->nodes[root].leaves;
      const auto object = std::find_if(leaves.begin(), leaves.end(),
                                       [&](std::uint32_t leaf) { return impl->nodes[leaf].kind == NodeKind::object; });
      if (object == leaves.end() || std::count_if(leaves.begin(), leaves.end(), [&](std::uint32_t leaf) {
                                      return impl->nodes[leaf].kind == NodeKind::object;
                                    }) > 1)
        refuse(where, "they must be one object");
      own.properties = impl->nodes[*object].properties;
      own.deepest_part = impl->nodes[*object].deepest_part;
      ParameterForms forms(*impl);
      for (Property& property : own.properties) {
        check_name(property.name, where);
        Node copy = impl->nodes[property.node];  // its leaves become another form: others may lead to it as well
        property.node = static_cast<std::uint32_t>(impl->nodes.size());
        impl->nodes.push_back(std::move(copy));
        forms.apply(property.node);
      }
    }
    index_keys(own, true);
    const auto node = static_cast<std::uint32_t>(impl->nodes.size());
    own.leaves = {node};
    impl->nodes.push_back(std::move(own));
    calls.properties.push_back({tool.name, node, false, 0});
  }
  index_keys(calls, true);
  impl->root = static_cast<std::uint32_t>(impl->nodes.size());
  calls.leaves = {impl->root};
  impl->nodes.push_back(std::move(calls));
  return Grammar(std::move(impl));
}

}  // namespace tqkv

// A JSON Schema, made into nodes.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/nodes.h"

namespace tqkv::grammar {

using Json = nlohmann::ordered_json;

/// Parses JSON of at most 100 levels. Throws Error(input); `what` begins its message.
Json parse_document(std::string_view text, const std::string& what, std::size_t most_bytes);

/// Throws Error(input): "WHERE: MESSAGE".
[[noreturn]] void refuse(const std::string& where, const std::string& message);

/// Nodes of one document. Places that lead to each other are found by their address: the document outlives it.
class SchemaCompiler {
 public:
  /// `what` names the document in messages.
  SchemaCompiler(Grammar::Impl& grammar, const Json& document, std::string what);
  /// The node of a schema inside the document, at the JSON pointer `where`. It is empty until compile().
  std::uint32_t node_of(const Json& schema, const std::string& where);
  /// Fills all nodes that were asked for. Throws Error(input).
  void compile();
  std::uint32_t any();  ///< a node that takes every value

 private:
  struct Due {
    const Json* schema;
    std::uint32_t node;
    std::string where;
  };
  void fill(const Due& due);
  void reference(const Due& due, const std::string& target);
  void literals(const Due& due, const Json& values);
  std::uint32_t literal(const Json& value, const std::string& where);
  void typed(const Due& due);
  std::uint32_t string(const Due& due);
  std::uint32_t number(const Due& due, bool integer);
  std::uint32_t object(const Due& due);
  std::uint32_t array(const Due& due);
  std::uint32_t add(NodeKind kind, const std::string& where);
  std::uint32_t free_container(NodeKind kind);
  Node& at(std::uint32_t node) { return grammar_.nodes[node]; }
  std::string place(const std::string& where) const;

  Grammar::Impl& grammar_;
  const Json& document_;
  std::string what_;
  std::map<const Json*, std::uint32_t> nodes_;
  std::deque<Due> due_;
  std::uint32_t any_ = no_node;
};

/// What follows from all nodes together: leaves of alternatives, tries of keys, levels. Throws Error(input) for values
/// that never end. `compiled`: the first node that is new.
void complete(Grammar::Impl& grammar, std::size_t first_new = 0);
/// The trie of an object's or a tool's keys, or of names, and the next required ones.
void index_keys(Node& node, bool markup);

/// The types that a schema names; all of those that its keywords speak of where it names none.
std::set<std::string> types_of(const Json& schema, const std::string& place);
/// Bounds of the numbers of a schema.
struct Bounds {
  Range range;
  bool given = false;  // there are any
};
/// Throws Error(input) for bounds that no number of ours is in.
Bounds bounds_of(const Json& schema, bool integer, const std::string& place);
/// A size such as minItems; `otherwise` where it is absent.
std::uint32_t size_of(const Json& schema, const char* key, std::uint32_t otherwise, const std::string& place);
/// As JSON, on one line. With `markup`, without "</".
std::string written(const Json& value, bool markup);
/// Throws Error(input) for a keyword that is not known.
void check_keywords(const Json& schema, const std::string& place);
/// A part of a JSON pointer.
std::string pointer_part(std::string_view key);

}  // namespace tqkv::grammar

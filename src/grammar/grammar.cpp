#include "tqkv/grammar.h"

#include <utility>

#include "grammar/schema.h"
#include "grammar/state.h"

namespace tqkv {

Grammar Grammar::json_object() {
  return json_schema(R"({"type": "object"})");
}

Grammar Grammar::json_schema(std::string_view schema) {
  const grammar::Json document = grammar::parse_document(schema, "schema", 64 * 1024);
  auto impl = std::make_shared<Impl>();
  grammar::SchemaCompiler compiler(*impl, document, "schema");
  impl->root = compiler.node_of(document, "");
  compiler.compile();
  grammar::complete(*impl);
  return Grammar(std::move(impl));
}

}  // namespace tqkv

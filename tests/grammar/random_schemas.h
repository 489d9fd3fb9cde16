// Schemas by chance, a validator of the test's own for them, and a way to an end from wherever a text stands.
#pragma once
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "tqkv/grammar.h"

namespace tqkv::test {

using Chance = std::mt19937;

/// With recursive definitions; some of them no value matches.
nlohmann::ordered_json random_schema(Chance& chance);
/// Whether a value matches, by the letter of JSON Schema.
bool valid(const nlohmann::json& root, const nlohmann::json& schema, const nlohmann::json& value);
/// Goes on byte by byte, by chance and then by what closes, until the text is whole. Empty: it got stuck.
std::string walk(Matcher matcher, Chance& chance, int random_bytes, std::string text = {});
/// Parses; also false for a key that comes twice.
bool parses_once(const std::string& text, nlohmann::json& value);

}  // namespace tqkv::test

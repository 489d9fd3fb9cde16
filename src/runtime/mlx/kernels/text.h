// Pieces of kernel texts.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace tqkv::mlx {

/// `text` with every {name} that `name` stands for replaced.
std::string with(std::string text, std::string_view name, std::string_view value);
/// A constant of the text: "constexpr constant int name = value;".
std::string constant(std::string_view name, int value);
std::string constant(std::string_view name, float value);
/// An array of floats in the constant address space.
std::string table(std::string_view name, std::span<const float> values);

}  // namespace tqkv::mlx

// Marks of a turn in the markup of Qwen.
#pragma once
#include <string_view>

namespace tqkv::text {

/// start_of_turn ROLE \n TEXT end_of_turn; what stands between two turns is no part of either.
inline constexpr std::string_view start_of_turn = "<|im_start|>", after_role = "\n", end_of_turn = "<|im_end|>",
                                  between_turns = "\n";
inline constexpr std::string_view role_system = "system", role_user = "user", role_assistant = "assistant";

}  // namespace tqkv::text

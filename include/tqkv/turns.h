// Turns: how rendered turns meet a text that is there already, or are left for one that comes later. Implemented in
// src/text.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "tqkv/chat.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

/// The id with which a model ends its turn; nothing where the tokenizer has no such token.
std::optional<int> end_of_turn(const Tokenizer& tokenizer);

/// `turns` after a turn of an assistant, or what there is of it. `ended`: the last id of the text is end_of_turn().
std::vector<ChatPiece> next_turns(std::vector<ChatPiece> turns, bool ended);
/// `turns`, which begin with one of a user, inside a turn of a user that was left open: without their beginning.
std::vector<ChatPiece> rest_of_turn(std::vector<ChatPiece> turns);

/// `turns` for a text that next_turns() follow: without what stands between turns.
std::vector<ChatPiece> closed_turns(std::vector<ChatPiece> turns);
/// `turns`, which end with one of a user, for a text that rest_of_turn() follows after a blank line.
std::vector<ChatPiece> open_turns(std::vector<ChatPiece> turns);

}  // namespace tqkv

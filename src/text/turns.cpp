#include "tqkv/turns.h"

#include <algorithm>
#include <string>
#include <utility>

#include "text/turns.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

const std::string turn_of_user = std::string(text::start_of_turn).append(text::role_user).append(text::after_role);
const std::string end_and_break = std::string(text::end_of_turn).append(text::between_turns);

void drop_front(std::vector<ChatPiece>& pieces, std::size_t count) {
  for (ChatPiece& piece : pieces) {
    const std::size_t part = std::min(count, piece.text.size());
    piece.text.erase(0, part);
    count -= part;
  }
}

void drop_back(std::vector<ChatPiece>& pieces, std::size_t count) {
  for (auto piece = pieces.rbegin(); piece != pieces.rend() && count > 0; ++piece) {
    const std::size_t part = std::min(count, piece->text.size());
    piece->text.resize(piece->text.size() - part);
    count -= part;
  }
}

void require_end(const std::vector<ChatPiece>& turns) {
  if (!text_of(turns).ends_with(end_and_break)) throw Error(ErrorKind::internal, "prompt: a turn does not end as such");
}

}  // namespace

std::optional<int> end_of_turn(const Tokenizer& tokenizer) {
  return tokenizer.control_id(text::end_of_turn);
}

std::vector<ChatPiece> next_turns(std::vector<ChatPiece> turns, bool ended) {
  turns.insert(turns.begin(), {ended ? std::string(text::between_turns) : end_and_break, true});
  return turns;
}

std::vector<ChatPiece> rest_of_turn(std::vector<ChatPiece> turns) {
  if (!text_of(turns).starts_with(turn_of_user))
    throw Error(ErrorKind::internal, "prompt: a user's turn does not begin as such");
  drop_front(turns, turn_of_user.size());
  return turns;
}

std::vector<ChatPiece> closed_turns(std::vector<ChatPiece> turns) {
  require_end(turns);
  drop_back(turns, text::between_turns.size());
  return turns;
}

std::vector<ChatPiece> open_turns(std::vector<ChatPiece> turns) {
  require_end(turns);
  drop_back(turns, end_and_break.size());
  turns.push_back({"\n\n", false});
  return turns;
}

}  // namespace tqkv

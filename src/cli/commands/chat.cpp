#include "tqkv/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/numbers.h"
#include "base/stopwatch.h"
#include "cli/commands/commands.h"
#include "cli/commands/generate_report.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/options/sampling_options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/session/prompt.h"
#include "cli/session/saved.h"
#include "cli/session/startup.h"
#include "cli/terminal/history.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/line_editor.h"
#include "cli/terminal/output.h"
#include "cli/terminal/stream.h"
#include "tqkv/chat_session.h"
#include "tqkv/error.h"
#include "tqkv/generate.h"
#include "tqkv/model.h"

namespace tqkv::cli {
namespace {

constexpr int default_context = 32768, default_snapshots_mb = 256;

struct ChatArguments {
  ModelOptions model;
  CacheOptions cache;
  SamplingOptions sampling;
  std::optional<std::string> system;
  bool think = false, no_think = false, no_history = false;
  std::string thinking = "dim";
  int max_tokens = default_max_tokens;
  int snapshots_mb = default_snapshots_mb;
  std::string session;
  std::string markup;  // empty: as the template says
  const CLI::App* command = nullptr;
};

constexpr const char* help = R"(/system TEXT     set the system message; without TEXT, remove it
/backend FORMAT  compute the conversation again with another cache format
/undo            take back the last question and its answer
/reset           start again with the same system message
/save FILE       save the conversation, for /load and generate --session
/load FILE       resume a saved conversation
/stats           show speed, bytes of the cache and of what /undo keeps
/help            show this list
/quit            end the chat, as Ctrl-D does
Ctrl-C stops an answer. Lines that are pasted together are one question. A line that ends with \ continues on the
next line. """ begins and ends a text of several lines.
)";

/// A command that cannot be obeyed.
[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::input, message);
}

/// The model, the conversation with it, and what the options and commands make of both.
class ChatCommand {
 public:
  ChatCommand(const ChatArguments& options, Model model, std::optional<SavedSession> saved)
      : options_(options),
        model_(std::move(model)),
        tokenizer_(load_tokenizer(model_)),
        weights_(model_.checkpoint().tensor_bytes()),
        sampling_(combine(model_.defaults(), options.sampling)),
        template_(choose_chat(options.markup, model_)) {
    if (options.think && template_.variant() == ChatVariant::plain)
      throw Error(ErrorKind::chat, "--think: this model does not think: leave it out");
    if (options.think || options.no_think) chat_options_.think = options.think;
    system_ = options.system;
    format_ = saved ? adopt(*saved, *options.command, options_.cache, options_.model) : options_.cache.format();
    context_ = options_.model.context > 0 ? options_.model.context
                                          : std::min(default_context, model_.config().max_position_embeddings);
    session_options_ = options_.model.session();
    session_options_.context = context_;
    plan_ = plan(format_, saved.has_value());
    announcement_ = admit(plan_, options_.model, model_.checkpoint().directory());
    model_.load(shown_device(options_.model));
    chat_.emplace(open(format_), snapshot_budget(), model_.cuts());
    if (saved) adopt_session(std::move(*saved));
    note(describe_cache(chat_->cache()));
    note_device(model_.engine(), options_.model.device().precision);
  }

  /// False for an answer that memory cut short.
  bool say(const std::string& text) {
    const Interrupt interrupt(Interrupt::Second::is_ignored);
    int replaced = 0;
    const std::vector<int> prompt = prompt_ids(text, replaced);
    warn_about(replaced);
    GenerateOptions generation = model_.generate_options(sampling_);
    generation.stop_strings = options_.sampling.stop;
    generation.max_tokens = options_.max_tokens;
    generation.opens_thinking = template_.opens_thinking(chat_options_);
    generation.cancel = interrupt.flag();
    generation.notice = [](std::string_view line) { note(std::string(line)); };
    generation.progress = show_prompt;
    show_prompt(0, static_cast<int>(prompt.size()));
    Stream stream(options_.thinking == "dim");
    const double startup = seconds_since_start();
    result_ =
        chat_->say(tokenizer_, prompt, generation, [&](Part part, std::string_view piece) { stream(part, piece); });
    stream.finish();
    if (!startup_) startup_ = startup;
    if (!result_->ids.empty()) texts_.push_back(text);
    ++sampling_.seed;  // the same question need not get the same answer
    say_how_it_ended();
    return result_->reason != FinishReason::memory;
  }

  /// Whether Ctrl-C ended the last answer.
  bool interrupted() const { return result_ && result_->reason == FinishReason::cancelled; }

  void undo() {
    if (!chat_->undo()) refuse("/undo: there is nothing to undo");
    texts_.pop_back();
    result_.reset();
    note(fmt::format("took back the last question and its answer: {} left", chat_->turns()));
  }

  void reset() {
    chat_->reset();
    texts_.clear();
    result_.reset();
    note("a new conversation");
  }

  void system(const std::string& text) {
    if (chat_->adopted()) refuse("/system: the conversation was loaded and has its beginning: /reset starts a new one");
    const std::optional<std::string> system = text.empty() ? std::nullopt : std::optional(text);
    int replaced = 0;
    if (chat_->turns() > 0 && !rebuild(format_, encode(tokenizer_, render_turn(texts_.front(), system, replaced))))
      return;
    system_ = system;
    note(system_ ? "the system message is set" : "there is no system message");
  }

  void backend(const std::string& text) {
    if (text.empty()) refuse("/backend: name a cache format, such as trellis");
    const KvFormat format = KvFormat::parse(text);
    const MemoryPlan plan = fitting(format, false);
    if (const int held = chat_->position(); held > 0)
      note(fmt::format("computing {} tokens again", grouped(static_cast<std::uint64_t>(held))));
    if (!rebuild(format, std::nullopt)) return;
    change_to(plan);
    note(describe_cache(chat_->cache()));
  }

  void save(const std::string& path) {
    if (path.empty()) refuse("/save: name a file");
    if (chat_->position() == 0) refuse("/save: nothing was said yet");
    const Interrupt interrupt(Interrupt::Second::is_ignored);
    if (!chat_->catch_up(progress(interrupt))) return note("interrupted: nothing was saved");
    cli::save(chat_->session(), path, {NextText::conversation, chat_->pending()});
  }

  void load(const std::string& path) {
    if (path.empty()) refuse("/load: name a file");
    SavedSession saved = SavedSession::open(path);
    const MemoryPlan plan = fitting(saved.identity().format, true);
    adopt_session(std::move(saved));
    change_to(plan);
    note(describe_cache(chat_->cache()));
  }

  void stats() {
    if (result_) {
      print_error(statistics_text({options_.model.model, model_.engine().device(), sampling_, weights_,
                                   plan_.anonymous(), context_, 0, startup_.value_or(0), &*result_}));
    }
    const CacheReport cache = chat_->cache();
    print_error(fmt::format(
        "{}\n{} question{}, {} of {} tokens, {} bytes of keys and values, {} of recurrent state\n"
        "{} recurrent state{} kept for /undo, {} bytes (--snapshots {} MB)\n",
        describe_cache(cache) + describe_plain(cache), chat_->turns(), chat_->turns() == 1 ? "" : "s",
        grouped(static_cast<std::uint64_t>(chat_->position())), grouped(static_cast<std::uint64_t>(context_)),
        grouped(cache.bytes.kv_allocated), grouped(cache.bytes.state()), chat_->snapshots(),
        chat_->snapshots() == 1 ? "" : "s", grouped(chat_->snapshot_bytes()), options_.snapshots_mb));
    print_error(describe(plan_));
  }

 private:
  std::uint64_t snapshot_budget() const { return static_cast<std::uint64_t>(options_.snapshots_mb) * 1'000'000; }

  /// Asked after every chunk of what is computed again.
  static ChatSession::Progress progress(const Interrupt& interrupt) {
    return [&interrupt](int done, int total) {
      show_prompt(done, total);
      return !interrupt.requested();
    };
  }

  MemoryPlan plan(const KvFormat& format, bool adopted) const {
    PlanRequest request{options_.model.device(), session_options_};
    request.tokenizer = tokenizer_.size();
    return plan_chat(model_, format, request, snapshot_budget(), adopted);
  }

  /// The plan of another format beside the session that there is, which is let go only when the new one stands.
  MemoryPlan fitting(const KvFormat& format, bool adopted) const {
    MemoryPlan other = plan(format, adopted);
    if (!options_.model.force) require_fit(other);
    return other;
  }

  void change_to(const MemoryPlan& plan) {
    format_ = plan.format;
    plan_ = plan;
    announcement_ = Announcement(options_.model.model, model_.checkpoint().directory(), plan.weights, plan.anonymous());
  }

  ChatSession::Open open(const KvFormat& format) const {
    return [&engine = model_.engine(), format, session = session_options_] { return engine.open(format, session); };
  }

  void adopt_session(SavedSession saved) {
    if (saved.text().next != NextText::conversation)
      throw Error(ErrorKind::session, fmt::format("{}: is no conversation but a text that was stored: use generate "
                                                  "--session",
                                                  saved.path().string()));
    std::vector<int> pending = saved.text().pending;
    const Stopwatch watch;
    std::unique_ptr<Session> session = model_.engine().restore(saved, session_options_);
    tell_restored(saved, model_.engine(), watch.seconds());
    chat_.emplace(open(saved.identity().format), snapshot_budget(), model_.cuts());
    chat_->adopt(std::move(session), std::move(pending));
    texts_.clear();
    result_.reset();
  }

  bool rebuild(const KvFormat& format, std::optional<std::vector<int>> first) {
    const Interrupt interrupt(Interrupt::Second::is_ignored);
    const bool done = chat_->rebuild(open(format), std::move(first), progress(interrupt));
    if (!done) note("interrupted: the conversation stays as it was");
    return done;
  }

  std::vector<ChatPiece> render_turn(const std::string& text, const std::optional<std::string>& system,
                                     int& replaced) const {
    return template_.render(user_message(text, system, &replaced), chat_options_);
  }

  /// Ids of the next turn, after what the model said last.
  std::vector<int> prompt_ids(const std::string& text, int& replaced) const {
    const std::vector<ChatPiece> turn = render_turn(text, chat_->last_id() ? std::nullopt : system_, replaced);
    return encode(tokenizer_, chat_->placed(turn, tokenizer_));
  }

  void say_how_it_ended() const {
    if (result_->ended_thinking) note("the answer ended inside thinking: give more --max-tokens, or --no-think");
    if (result_->reason == FinishReason::length && !result_->ended_thinking)
      note(fmt::format("stopped after {} tokens (--max-tokens)", options_.max_tokens));
    if (result_->reason == FinishReason::context)
      note(
          fmt::format("the context of {} tokens is full: /undo or /reset, or start with a larger --context", context_));
    if (result_->reason == FinishReason::memory) note(result_->stopped_by);
    if (result_->reason == FinishReason::cancelled)
      note(result_->ids.empty() ? "interrupted: the question is forgotten" : "interrupted");
  }

  ChatArguments options_;
  Model model_;
  const Tokenizer& tokenizer_;
  std::uint64_t weights_;
  Sampling sampling_;
  ChatTemplate template_;
  ChatOptions chat_options_;
  std::optional<std::string> system_;
  KvFormat format_;
  int context_ = 0;
  SessionOptions session_options_;
  MemoryPlan plan_;  // of the session as it was opened
  Announcement announcement_;
  std::optional<ChatSession> chat_;  // before the model goes
  std::vector<std::string> texts_;   // what was asked, a turn each
  std::optional<GenerateResult> result_;
  std::optional<double> startup_;
};

/// The next line of a text that is open.
std::optional<std::string> next_part(LineEditor& editor, const char* closing) {
  std::optional<std::string> line = editor.next(". ");
  if (!line && !editor.is_terminal())
    throw Error(
        ErrorKind::input,
        fmt::format("standard input: it ends inside a text of several lines, which was not asked: {}", closing));
  return line;
}

/// One input of a person: a line, lines joined by \, or what stands between two """. Nothing at the end. Throws
/// Error(input) for a pipe that ends inside a text.
std::optional<std::string> next_input(LineEditor& editor) {
  std::optional<std::string> line = editor.next("> ");
  if (!line || editor.given_up()) return line;
  std::string text;
  if (line->starts_with("\"\"\"")) {
    for (text = line->substr(3); !text.ends_with("\"\"\"");) {
      line = next_part(editor, "end it with \"\"\"");
      if (!line || editor.given_up()) return line;
      text += "\n" + *line;
    }
    text.resize(text.size() - 3);
  } else {
    text = *line;
    while (text.ends_with('\\')) {
      text.pop_back();
      line = next_part(editor, "leave out the last \\");
      if (!line || editor.given_up()) return line;
      text += "\n" + *line;
    }
  }
  return text;
}

std::string trimmed(const std::string& text) {
  constexpr const char* blank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(blank);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(blank) - first + 1);
}

/// False ends the chat.
bool obey(ChatCommand& chat, const std::string& text) {
  const std::size_t space = text.find_first_of(" \t\n");
  const std::string command = text.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : trimmed(text.substr(space));
  if (command == "/quit" || command == "/exit") return false;
  if (command == "/help")
    print_error(help);
  else if (command == "/system")
    chat.system(argument);
  else if (command == "/backend")
    chat.backend(argument);
  else if (command == "/undo")
    chat.undo();
  else if (command == "/reset")
    chat.reset();
  else if (command == "/save")
    chat.save(argument);
  else if (command == "/load")
    chat.load(argument);
  else if (command == "/stats")
    chat.stats();
  else
    refuse(
        fmt::format("there is no command {}: /help lists them; put a blank before a text that begins with /", command));
  return true;
}

void run_chat(const ChatArguments& options) {
  if (options.markup == "raw")
    throw Error(ErrorKind::usage, "tqkv chat: --markup raw has no turns: use generate --raw");
  if (options.think && options.no_think)
    throw Error(ErrorKind::usage, "tqkv chat: --think and --no-think contradict each other");
  if (!options.session.empty() && options.system)
    throw Error(ErrorKind::usage, "tqkv chat: --session has the beginning of the conversation: leave out --system");
  std::optional<SavedSession> saved = open_saved(options.session);
  ChatCommand chat(options, Model(Checkpoint::open(find_model(options.model.model))), std::move(saved));
  LineEditor editor(options.no_history ? std::filesystem::path() : history_file());
  // Ctrl-C that comes just as an answer ends is meant for the answer. A pipe has nobody to mean anything: there it ends
  // the program between answers.
  std::optional<Interrupt> too_late;
  if (editor.is_terminal()) too_late.emplace(Interrupt::Second::is_ignored);
  if (output_is_terminal()) note("/help lists the commands, Ctrl-D ends");
  bool failed = false, quit = false;
  while (std::optional<std::string> text = next_input(editor)) {
    if (editor.given_up() || trimmed(*text).empty()) continue;
    editor.remember(*text);
    try {
      if (!text->starts_with('/'))
        failed |= !chat.say(*text);
      else
        quit = !obey(chat, *text);
    } catch (const Error& error) {  // the conversation goes on
      std::string line = error.what();
      std::replace(line.begin(), line.end(), '\n', ' ');
      note(line);
      failed = true;
    }
    if (quit) break;
    if (chat.interrupted() && !editor.is_terminal()) throw CLI::RuntimeError(interrupted_exit_code);
  }
  if (output_is_terminal() && !quit) print("\n");
  if (failed && !editor.is_terminal()) throw CLI::RuntimeError(1);
}

}  // namespace

void add_chat(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<ChatArguments>();
  CLI::App* command = program.add_subcommand("chat", "Talk with a model");
  add_model_options(*command, options->model);
  command->add_option("--system", options->system, "System message")->type_name("TEXT");
  add_markup_option(*command, options->markup);
  command->add_flag("--think", options->think, "Let the model think first (default: what its template does)");
  command->add_flag("--no-think", options->no_think, "Answer without thinking");
  command->add_option("--thinking", options->thinking, "Show thinking dim, or hide it")
      ->check(CLI::IsMember({"dim", "hidden"}))
      ->type_name("HOW")
      ->capture_default_str();
  command->add_option("--max-tokens", options->max_tokens, "Maximum number of tokens per answer, including thinking")
      ->transform(whole_number(1, max_count))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--snapshots", options->snapshots_mb, "Memory in MB for snapshots, which make /undo fast")
      ->transform(whole_number(0, 1 << 20))
      ->type_name("MB")
      ->capture_default_str();
  command->add_flag("--no-history", options->no_history,
                    "Do not read or write the input history ($XDG_STATE_HOME/tqkv/history)");
  command->add_option("--session", options->session, "Resume a saved conversation")
      ->type_name("FILE")
      ->group(session_group);
  options->command = command;
  add_sampling_options(*command, options->sampling);
  add_cache_options(*command, options->cache, false);
  command->footer(
      "Each turn computes only its new tokens. Answers go to standard output, everything else to standard error.\n"
      "The context is 32,768 tokens, or what --context says.\n\n" +
      std::string(help) +
      "\nExamples:\n"
      "  tqkv chat pocket\n"
      "  tqkv chat pocket --system 'Answer in one sentence.' --backend trellis --kv-window 128");
  command->callback([options] { run_chat(*options); });
}

}  // namespace tqkv::cli

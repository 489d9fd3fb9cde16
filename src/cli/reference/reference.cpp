#include "cli/reference/reference.h"

#include <algorithm>
#include <string_view>

#include "tqkv/kv_format.h"

namespace tqkv::cli {
namespace {

OptionEntry entry_of(const CLI::Option& option) {
  OptionEntry entry;
  for (const std::string& name : option.get_snames()) entry.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) entry.names.push_back("--" + name);
  entry.description = option.get_description();
  if (option.get_group() != "Options") entry.group = option.get_group();
  entry.preset = option.get_default_str();
  if (entry.names.empty()) entry.argument = option.get_name();
  if (option.get_type_size() == 0) return entry;
  // "KIND:{fast,f32}": the name that help shows and what CLI11 checks.
  const std::string type = option.get_type_name();
  const std::size_t colon = type.find(':');
  if (entry.argument.empty()) entry.argument = type.substr(0, colon);
  if (colon != std::string::npos && type.compare(colon + 1, 1, "{") == 0) {
    std::string_view list = std::string_view(type).substr(colon + 2);
    list = list.substr(0, list.find('}'));
    while (!list.empty()) {
      const std::size_t comma = std::min(list.find(','), list.size());
      entry.choices.emplace_back(list.substr(0, comma));
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
  }
  if (entry.argument == "FORMAT")
    for (const Backend backend : all_backends()) entry.choices.emplace_back(name(backend));
  return entry;
}

}  // namespace

std::vector<CommandEntry> commands_of(const CLI::App& program) {
  std::vector<CommandEntry> commands;
  for (const CLI::App* app : program.get_subcommands([](const CLI::App*) { return true; })) {
    CommandEntry command{app->get_name(), app->get_description(), app->get_footer(), {}, {}};
    for (const CLI::Option* option : app->get_options()) {
      OptionEntry entry = entry_of(*option);
      (entry.names.empty() ? command.positionals : command.options).push_back(std::move(entry));
    }
    commands.push_back(std::move(command));
  }
  return commands;
}

}  // namespace tqkv::cli

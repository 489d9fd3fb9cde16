// The subcommands, one file each: every function adds its command to the program, with a callback that runs it.
#pragma once
#include <CLI/CLI.hpp>

namespace tqkv::cli {

void add_generate(CLI::App& program);
void add_chat(CLI::App& program);
void add_prefill(CLI::App& program);
void add_serve(CLI::App& program);
void add_benchmark(CLI::App& program);
void add_evaluate(CLI::App& program);
void add_compare(CLI::App& program);
void add_report(CLI::App& program);
void add_tune(CLI::App& program);
void add_inspect(CLI::App& program);
void add_doctor(CLI::App& program);
void add_logits(CLI::App& program);
void add_pull(CLI::App& program);
void add_verify(CLI::App& program);
void add_models(CLI::App& program);
void add_tokenize(CLI::App& program);  // tokenize and detokenize
void add_completion(CLI::App& program);
void add_manual(CLI::App& program);

}  // namespace tqkv::cli

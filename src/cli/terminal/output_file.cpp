#include "cli/terminal/output_file.h"

#include "cli/terminal/output.h"

namespace tqkv::cli {

OutputFile::OutputFile(const std::string& path) {
  if (path != "-") file_.emplace(path);
}

void OutputFile::write(std::string_view text) {
  if (file_)
    file_->write(text);
  else
    print(text);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void OutputFile::commit() {
  if (file_) file_->commit();
}

void print_result(const std::string& output, std::string_view text) {
  output == "-" ? print_error(text) : print(text);
}

}  // namespace tqkv::cli

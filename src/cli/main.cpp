#include "cli/program.h"

int main(int argc, char** argv) {
  return tqkv::cli::run(argc, argv);
}

// The processor's name, for people.
#pragma once
#include <string>

namespace tqkv {

std::string processor_name();

}  // namespace tqkv

// Numbers on a command line, read as people write them: decimal digits, whatever stands in front of them.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

namespace tqkv::cli {

// Both are for CLI::Option::transform(): they leave the number as CLI11 reads it right, without zeros in front, which
// would make it octal there. Every option that takes a number has one of them.

/// A whole number from `least` to `most`: "10", "010" and "+10" are ten; "0x10", "1e3" and "" are none.
CLI::Validator whole_number(std::int64_t least, std::uint64_t most);
/// A size in bytes: a whole number, alone or with kB, MB, GB (thousands) or KiB, MiB, GiB. Becomes the number of bytes.
CLI::Validator byte_size();
/// A decimal number from `least` to `most`: "0.5", ".5", "5e-1"; not "nan", "inf", hexadecimal, or too large for a
/// double.
CLI::Validator real_number(double least = std::numeric_limits<double>::lowest(),
                           double most = std::numeric_limits<double>::max());

}  // namespace tqkv::cli

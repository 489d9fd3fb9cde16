// When the program began.
#pragma once

namespace tqkv::cli {

/// Seconds since the program was loaded.
double seconds_since_start();

}  // namespace tqkv::cli

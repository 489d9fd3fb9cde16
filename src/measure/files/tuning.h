// The figures of a tuning, as its file holds them. docs/measuring.md defines each.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tqkv::measure {

/// One of the three.
struct TuneGoal {
  std::optional<double> bits;                    ///< nominal bits per value: as many bytes as turboquant of so many
  std::optional<std::uint64_t> bytes_per_token;  ///< of keys and values, all layers
  std::optional<double> kl;                      ///< mean KL that is not to be exceeded, nats
};

/// A format over one of the two texts, against the uncompressed cache.
struct TuneMeasurement {
  bool held_out = false;
  std::string format;  ///< canonical, as asked
  double kl = 0;       ///< mean over rows, nats
  std::optional<double> kl_se;
  double same_top = 0;  ///< share of rows
  double ratio = 1;     ///< of perplexities
  double seconds = 0;
};

/// What one side of one layer costs alone.
struct TuneSide {
  int layer = 0;  ///< in the model
  bool keys = false;
  struct Point {
    int bits = 0;
    std::string stored;       ///< as the side describes itself
    std::uint64_t bytes = 0;  ///< per token, over the KV heads
    double kl = 0;
  };
  std::vector<Point> points;  ///< by bits, ascending
};

/// Everything of a file behind its header.
struct TuningFigures {
  TuneGoal goal;
  std::vector<TuneMeasurement> measurements;  ///< in the order in which they were made

  bool finished = false;  ///< what follows is set
  std::vector<TuneSide> sides;
  std::string chosen;        ///< canonical
  bool goal_reached = true;  ///< false: of a goal of KL, which no format that was tried reaches; this one is nearest
  double predicted_kl = 0;   ///< sum of what its sides cost alone
  std::uint64_t bytes_per_token = 0, default_bytes_per_token = 0;
  std::uint64_t fixed_bytes = 0;  ///< window, sink and mean, whatever the length of the text
  /// What the result is held against: the chosen one first, for a budget the best with layers of their own, the same
  /// bytes without them, turboquant of 4 bits without options, and the program's default last.
  std::vector<std::string> compared;
};

}  // namespace tqkv::measure

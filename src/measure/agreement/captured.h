// Captured vectors: keys, values and queries of any model's attention layers, read from a file, through the cache
// formats. docs/measuring.md has the layout of the file and defines every figure.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/engine.h"
#include "tqkv/kv_format.h"

namespace tqkv::measure {

struct CapturedLayer {
  std::string model;         ///< prefix of its tensors
  int layer = 0;             ///< in the model
  int index = 0, count = 1;  ///< among the model's layers in the file, as their attention layers
  int window = 0;            ///< a local layer: newest keys that a query sees; 0: all of them
  int heads = 0, kv_heads = 0, head_dim = 0, tokens = 0;
  float scale = 1;             ///< of scores: q·k scale
  std::vector<float> keys;     ///< [tokens, kv heads, head_dim], with RoPE
  std::vector<float> values;   ///< the same
  std::vector<float> queries;  ///< [positions, heads, head_dim], with RoPE, not scaled
  std::vector<int> positions;  ///< of the queries, ascending
};

struct CapturedText {
  std::string file, digest;           ///< its path, and XXH3 of its bytes in 32 hexadecimal digits
  std::string text;                   ///< what its metadata say of it
  std::vector<CapturedLayer> layers;  ///< model by model, in the order of layers
};
/// Throws Error(io) for a file that cannot be read, Error(input), naming the tensor, for one that lacks a tensor, or
/// has shapes, positions or numbers that cannot be: vectors have those of f16, up to 65,504.
CapturedText read_captured(const std::filesystem::path& file);
/// The same of the bytes of a file. `where` starts every message.
CapturedText parse_captured(std::span<const std::byte> file, const std::string& where);

/// What a format does to one layer. Means over queries and heads.
struct CapturedFigures {
  std::string model;
  int layer = 0, window = 0, queries = 0;
  Precision precision = Precision::f32;
  std::string format;       ///< canonical string, as held
  std::string k, v;         ///< as stored
  double bits = 0;          ///< stored bits per value, mean of keys and values, without what is plain
  double k_distortion = 0;  ///< |k - k'|^2 / |k|^2, as the last query sees them
  double v_distortion = 0;
  double score_error = 0;    ///< nats: standard deviation of score errors under the exact weights
  double kl = 0, kl_se = 0;  ///< of the attention weights, nats; and its standard error
  double output_error = 0;   ///< |o - o'| / |o|
};
CapturedFigures measure_captured(const CapturedLayer& layer, const KvFormat& format, const DeviceOptions& options);

struct CapturedEvaluation {
  CapturedText text;  ///< its layers without their vectors
  std::string command;
  DeviceReport device;
  std::uint64_t memory = 0;  ///< of the machine or its container, bytes
  std::vector<CapturedFigures> figures;
};
/// Every format on every layer, in the order of layers. Throws Error(format), before any work, for a format that cannot
/// store these vectors, names layers that the file does not have, or that a session of a model with these layers
/// refuses.
CapturedEvaluation evaluate_captured(const CapturedText& text, std::span<const KvFormat> formats,
                                     std::span<const Precision> precisions, const DeviceOptions& options,
                                     const std::function<void(std::string_view)>& progress = {});

/// A format over all layers of a model; root mean squares of the two errors.
struct CapturedMeans {
  const CapturedFigures* worst = nullptr;  ///< the layer with the largest KL
  int layers = 0;
  double bits = 0, kl = 0, score_error = 0, output_error = 0, k_distortion = 0, v_distortion = 0;
};
/// Formats and precisions in the order of their first figures, which must outlive the result.
std::vector<CapturedMeans> means_of(const std::vector<CapturedFigures>& figures, const std::string& model);

std::string to_json(const CapturedEvaluation& evaluation);   ///< an evaluation of schema 1, with `captured`
std::string to_table(const CapturedEvaluation& evaluation);  ///< for a terminal of 110 columns

}  // namespace tqkv::measure

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

#include "measure/files/captured_means.h"
#include "measure/files/evaluation.h"
#include "measure/files/measured.h"
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

/// What `format` does to one layer.
CapturedFigures measure_captured(const CapturedLayer& layer, const KvFormat& format, const DeviceOptions& options);

struct CapturedEvaluation : Measured {
  CapturedText text;  ///< its layers without their vectors
  std::vector<CapturedFigures> figures;
};
/// Every format on every layer, in the order of layers. Throws Error(format), before any work, for a format that cannot
/// store these vectors, names layers that the file does not have, or that a session of a model with these layers
/// refuses.
CapturedEvaluation evaluate_captured(const CapturedText& text, std::span<const KvFormat> formats,
                                     std::span<const Precision> precisions, const DeviceOptions& options,
                                     const std::function<void(std::string_view)>& progress = {});

std::string to_json(const CapturedEvaluation& evaluation);   ///< an evaluation of schema 1, with `captured`
std::string to_table(const CapturedEvaluation& evaluation);  ///< for a terminal of 110 columns

}  // namespace tqkv::measure

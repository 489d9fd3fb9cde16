#include "measure/agreement/captured.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "base/error_text.h"
#include "base/memory_info.h"
#include "cache/accounting.h"
#include "codec/side_codec.h"
#include "measure/figures/number_text.h"
#include "runtime/devices.h"
#include "runtime/layer_attention.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

// In 16 parts, which the compiler keeps in vectors.
double dot(const float* a, const float* b, std::size_t n) {
  std::array<float, 16> parts{};
  std::size_t i = 0;
  for (; i + parts.size() <= n; i += parts.size())
    for (std::size_t j = 0; j < parts.size(); ++j) parts[j] += a[i + j] * b[i + j];
  double sum = 0;
  for (const float part : parts) sum += static_cast<double>(part);
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

double squared_difference(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

double square(std::span<const float> a) {
  return dot(a.data(), a.data(), a.size());
}

/// Scores less the logarithm of their sum: log of the attention weights.
void to_log_weights(std::vector<double>& scores) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - most);
  for (double& score : scores) score -= most + std::log(sum);
}

/// Keys and values of one KV head [tokens, head_dim], as they were fed.
struct Head {
  std::vector<float> keys, values;
};

std::vector<Head> heads_of(const CapturedLayer& layer) {
  std::vector<Head> heads(static_cast<std::size_t>(layer.kv_heads));
  const auto dim = static_cast<std::size_t>(layer.head_dim);
  for (std::size_t at = 0; at < layer.keys.size(); at += dim) {
    Head& head = heads[at / dim % heads.size()];
    const auto from = static_cast<std::ptrdiff_t>(at);
    head.keys.insert(head.keys.end(), layer.keys.begin() + from, layer.keys.begin() + from + layer.head_dim);
    head.values.insert(head.values.end(), layer.values.begin() + from, layer.values.begin() + from + layer.head_dim);
  }
  return heads;
}

std::unique_ptr<LayerAttention> attention_of(const CapturedLayer& layer, const KvFormat& format,
                                             const DeviceOptions& options) {
  const DeviceKind& kind = kind_of(options.device);
  if (!kind.attention)
    throw Error(ErrorKind::usage, fmt::format("device `{}`: captured vectors cannot be measured on it; use cpu",
                                              options.device.canonical()));
  return kind.attention({layer.heads, layer.kv_heads, layer.head_dim, layer.scale}, format, layer.layer, layer.index,
                        layer.count, options);
}

class Measurement {
 public:
  Measurement(const CapturedLayer& layer, const KvFormat& format, const DeviceOptions& options)
      : layer_(layer), heads_(heads_of(layer)), cache_(attention_of(layer, format, options)) {
    figures_.model = layer.model;
    figures_.layer = layer.layer;
    figures_.window = layer.window;
    figures_.queries = static_cast<int>(layer.positions.size());
    figures_.precision = options.precision;
    figures_.format = cache::as_stored(format, options.precision).canonical();
    figures_.k = cache_->keys().describe();
    figures_.v = cache_->values().describe();
    const auto bits = [&](const SideFormat& side) {
      return side.kind == SideFormat::Kind::plain ? 16.0 : codec::bits_per_value(side, layer.head_dim);
    };
    figures_.bits = (bits(cache_->keys()) + bits(cache_->values())) / 2;
  }

  CapturedFigures run() {
    const auto row = static_cast<std::size_t>(layer_.kv_heads) * static_cast<std::size_t>(layer_.head_dim);
    for (std::size_t i = 0; i < layer_.positions.size(); ++i) {
      const auto begin = static_cast<std::size_t>(cache_->tokens()) * row;
      const auto end = (static_cast<std::size_t>(layer_.positions[i]) + 1) * row;
      cache_->feed(std::span(layer_.keys).subspan(begin, end - begin),
                   std::span(layer_.values).subspan(begin, end - begin));
      query(i);
    }
    const double count = static_cast<double>(kl_.size());
    double sum = 0, squares = 0;
    for (const double kl : kl_) sum += kl;
    figures_.kl = sum / count;
    for (const double kl : kl_) squares += (kl - figures_.kl) * (kl - figures_.kl);
    figures_.kl_se = count > 1 ? std::sqrt(squares / (count - 1) / count) : 0;
    figures_.score_error = std::sqrt(score_square_ / (count * layer_.heads));
    figures_.output_error = output_square_ > 0 ? std::sqrt(output_difference_ / output_square_) : 0;
    measure_distortion();
    return figures_;
  }

 private:
  void query(std::size_t index) {
    const auto dim = static_cast<std::size_t>(layer_.head_dim), width = dim * static_cast<std::size_t>(layer_.heads);
    const int position = layer_.positions[index];
    const auto oldest = static_cast<std::size_t>(layer_.window > 0 ? std::max(0, position + 1 - layer_.window) : 0);
    const std::size_t visible = static_cast<std::size_t>(position) + 1 - oldest;
    const std::span<const float> q = std::span(layer_.queries).subspan(index * width, width);
    std::vector<float> output(width), exact(width);
    cache_->attend(q, static_cast<int>(oldest), output);
    std::vector<double> own(visible), with_cache(visible), value(dim);
    const int group = layer_.heads / layer_.kv_heads;
    double kl = 0;
    for (int kv_head = 0; kv_head < layer_.kv_heads; ++kv_head) {
      const Head& head = heads_[static_cast<std::size_t>(kv_head)];
      const auto seen = cache_->seen(kv_head);
      for (int h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        const std::size_t at = static_cast<std::size_t>(h) * dim;
        for (std::size_t t = 0; t < visible; ++t) {
          const std::size_t from = (oldest + t) * dim;
          own[t] = dot(q.data() + at, head.keys.data() + from, dim) * static_cast<double>(layer_.scale);
          with_cache[t] = dot(q.data() + at, seen.keys.data() + from, dim) * static_cast<double>(layer_.scale);
        }
        to_log_weights(own);
        to_log_weights(with_cache);
        std::fill(value.begin(), value.end(), 0.0);
        double mean = 0, mean_square = 0;
        for (std::size_t t = 0; t < visible; ++t) {
          const double weight = std::exp(own[t]), error = with_cache[t] - own[t];
          mean += weight * error;
          mean_square += weight * error * error;
          const float* v = head.values.data() + (oldest + t) * dim;
          for (std::size_t c = 0; c < dim; ++c) value[c] += weight * static_cast<double>(v[c]);
        }
        kl -= mean;
        score_square_ += std::max(0.0, mean_square - mean * mean);
        for (std::size_t c = 0; c < dim; ++c) exact[at + c] = static_cast<float>(value[c]);
      }
    }
    kl_.push_back(kl / layer_.heads);
    output_difference_ += squared_difference(output, exact);
    output_square_ += square(exact);
  }

  void measure_distortion() {
    double k = 0, k_square = 0, v = 0, v_square = 0;
    for (int kv_head = 0; kv_head < layer_.kv_heads; ++kv_head) {
      const Head& head = heads_[static_cast<std::size_t>(kv_head)];
      const auto seen = cache_->seen(kv_head);
      const auto fed = [&](const std::vector<float>& all) { return std::span(all).first(seen.keys.size()); };
      k += squared_difference(seen.keys, fed(head.keys));
      v += squared_difference(seen.values, fed(head.values));
      k_square += square(fed(head.keys));
      v_square += square(fed(head.values));
    }
    figures_.k_distortion = k_square > 0 ? k / k_square : 0;
    figures_.v_distortion = v_square > 0 ? v / v_square : 0;
  }

  const CapturedLayer& layer_;
  std::vector<Head> heads_;
  std::unique_ptr<LayerAttention> cache_;
  CapturedFigures figures_;
  std::vector<double> kl_;  // of each query
  double score_square_ = 0, output_difference_ = 0, output_square_ = 0;
};

// What can be wrong with a format for these layers, before any of them is measured: as for a session of each model.
void check_format(const CapturedText& text, const KvFormat& format) {
  std::set<int> layers;
  std::map<std::string, std::vector<int>> by_model;
  for (const CapturedLayer& layer : text.layers) {
    layers.insert(layer.layer);
    by_model[layer.model].push_back(layer.layer);
    const auto sides = format.sides(layer.layer, layer.index, layer.count);
    for (const SideFormat& side : {sides.k, sides.v}) cache::check_side(format, side, layer.head_dim);
  }
  for (const auto& own : format.layers)
    if (!layers.contains(own.layer))
      throw Error(ErrorKind::format, fmt::format("cache format `{}`: {} has no layer {}, it has {}", format.canonical(),
                                                 text.file, own.layer, fmt::join(layers, ", ")));
  for (const auto& [model, own] : by_model) {
    try {
      cache::check_layers(own, format);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{}: {}: {}", text.file, model, problem_of(error)));
    }
  }
}

std::string models_of(const CapturedText& text) {
  std::vector<std::string> models;
  for (const CapturedLayer& layer : text.layers)
    if (std::find(models.begin(), models.end(), layer.model) == models.end()) models.push_back(layer.model);
  return listed(models);
}

std::string shape_of(const CapturedText& text) {
  std::vector<std::string> shapes;
  for (const CapturedLayer& layer : text.layers) {
    const std::string shape =
        fmt::format("{} heads, {} KV heads of {} channels", layer.heads, layer.kv_heads, layer.head_dim);
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) shapes.push_back(shape);
  }
  return listed(shapes);
}

}  // namespace

CapturedFigures measure_captured(const CapturedLayer& layer, const KvFormat& format, const DeviceOptions& options) {
  return Measurement(layer, format, options).run();
}

CapturedEvaluation evaluate_captured(const CapturedText& text, std::span<const KvFormat> formats,
                                     std::span<const Precision> precisions, const DeviceOptions& options,
                                     const std::function<void(std::string_view)>& progress) {
  for (const KvFormat& format : formats) check_format(text, format);
  CapturedEvaluation evaluation;
  evaluation.text = text;
  evaluation.model = models_of(text);
  evaluation.shape = shape_of(text);
  evaluation.fingerprint = text.digest;
  for (CapturedLayer& layer : evaluation.text.layers) layer.keys = layer.values = layer.queries = {};
  evaluation.device = kind_of(options.device).report(options);
  evaluation.device.precision = precisions.front();
  evaluation.memory = total_memory();
  const std::size_t total = text.layers.size() * formats.size() * precisions.size();
  for (const CapturedLayer& layer : text.layers) {
    for (const Precision precision : precisions) {
      DeviceOptions own = options;
      own.precision = precision;
      for (const KvFormat& format : formats) {
        if (progress)
          progress(
              fmt::format("{} of {}: {}, layer {}", evaluation.figures.size() + 1, total, layer.model, layer.layer));
        evaluation.figures.push_back(measure_captured(layer, format, own));
      }
    }
  }
  return evaluation;
}

}  // namespace tqkv::measure

#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "base/float16.h"
#include "loaders/shards.h"
#include "loaders/tensor_names.h"
#include "model/layout.h"
#include "model/quantization.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using Shape = std::vector<std::int64_t>;

std::string describe(DType dtype, const Shape& shape) {
  return fmt::format("{} [{}]", name(dtype), fmt::join(shape, ", "));
}
std::string describe(const Tensor& tensor) {
  return describe(tensor.dtype, tensor.shape);
}

/// Binds names to bytes, and gathers every tensor that is missing, has another shape or is left over.
class Binder {
 public:
  Binder(const Checkpoint& checkpoint, const ModelConfig& config) : checkpoint_(checkpoint), config_(config) {}

  void matrix(Matrix& to, const std::string& module, const char*, int out, int in) { bind(to, module, {out, in}, 1); }
  void experts(Matrix& to, const std::string& module, const char*, int count, int out, int in) {
    bind(to, module, {count, out, in}, count);
  }
  void vector(Vector& to, const std::string& tensor_name, const char*, Shape shape, DType usual) {
    const Tensor* tensor = find(tensor_name);
    if (!tensor) return;
    if (!floating(tensor->dtype) || tensor->shape != shape) {
      if (shape.size() == 3 && tensor->shape == Shape{shape[0], 1, shape[1]} && shape[1] != 1) unconverted_ = true;
      return misfit(tensor_name, *tensor, describe(usual, shape));
    }
    to.dtype = tensor->dtype;
    to.size = 1;
    for (const std::int64_t extent : shape) to.size *= static_cast<int>(extent);
    to.data = tensor->bytes.data();
  }

  /// Throws where the tensors are not exactly those of the model.
  void finish() {
    std::vector<std::string> left_over;
    for (const auto& [tensor_name, tensor] : checkpoint_.tensors())
      if (used_.count(tensor_name) == 0 && !copy_of_embedding(tensor_name, tensor)) left_over.push_back(tensor_name);
    if (missing_.empty() && misfits_.empty() && left_over.empty()) return;
    std::vector<std::string> problems;
    if (!missing_.empty())
      problems.push_back(missing_.size() == 1
                             ? fmt::format("tensor {} is missing", missing_[0])
                             : fmt::format("{} tensors are missing: {}", missing_.size(), first_few(missing_)));
    if (!misfits_.empty())
      problems.push_back(misfits_.size() == 1 ? fmt::format("tensor {}", misfits_[0])
                                              : fmt::format("{} tensors have another type or shape: {}",
                                                            misfits_.size(), first_few(misfits_)));
    if (!left_over.empty())
      problems.push_back(
          left_over.size() == 1
              ? fmt::format("tensor {} is not one of this model's", shown(left_over[0]))
              : fmt::format("{} tensors are not this model's: {}", left_over.size(), first_few(left_over)));
    throw Error(ErrorKind::checkpoint, fmt::format("{}: {}{}", checkpoint_.directory().string(),
                                                   fmt::join(problems, "; "), remedy(left_over)));
  }

 private:
  static bool floating(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f32; }

  static std::string first_few(const std::vector<std::string>& names) {
    constexpr std::size_t most = 3;
    std::string text;
    for (std::size_t i = 0; i < std::min(most, names.size()); ++i) text += (i == 0 ? "" : ", ") + shown(names[i]);
    return names.size() > most ? text + fmt::format(" and {} more", names.size() - most) : text;
  }

  const Tensor* find(const std::string& tensor_name) {
    const Tensor* tensor = checkpoint_.find(tensor_name);
    (tensor ? used_ : absent_).insert(tensor_name);
    if (!tensor) missing_.push_back(tensor_name);
    return tensor;
  }

  void misfit(const std::string& tensor_name, const Tensor& found, const std::string& expected) {
    misfits_.push_back(fmt::format("{} is {}, expected {}", tensor_name, describe(found), expected));
  }

  [[noreturn]] void contradiction(const std::string& module, const std::string& what) const {
    throw Error(ErrorKind::config,
                fmt::format("{}: {}: {}", (checkpoint_.directory() / "config.json").string(), module, what));
  }

  /// Some checkpoints with tied embeddings hold them twice.
  bool copy_of_embedding(std::string_view tensor_name, const Tensor& tensor) const {
    constexpr std::string_view head = "language_model.lm_head.";
    if (!config_.tie_word_embeddings || tensor_name.substr(0, head.size()) != head) return false;
    const Tensor* embedding =
        checkpoint_.find("language_model.model.embed_tokens." + std::string(tensor_name.substr(head.size())));
    return embedding && embedding->dtype == tensor.dtype && embedding->shape == tensor.shape &&
           std::equal(embedding->bytes.begin(), embedding->bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  }

  /// Layers that the tensors number, from 0 on.
  int layers_there() const {
    constexpr std::string_view prefix = "language_model.model.layers.";
    int layers = 0;
    for (const auto& [tensor_name, tensor] : checkpoint_.tensors()) {
      int index = 0;
      if (tensor_name.substr(0, prefix.size()) != prefix) continue;
      const char *begin = tensor_name.data() + prefix.size(), *end = tensor_name.data() + tensor_name.size();
      const auto [after, error] = std::from_chars(begin, end, index);
      if (error == std::errc() && after != end && *after == '.' && index >= layers && index < 1'000'000)
        layers = index + 1;
    }
    return layers;
  }

  std::string remedy(const std::vector<std::string>& left_over) const {
    const auto any = [&](std::string_view part) {
      return std::any_of(left_over.begin(), left_over.end(),
                         [&](const std::string& one) { return one.find(part) != std::string::npos; });
    };
    if (unconverted_ || any(".mlp.experts.gate_up_proj"))
      return ": this checkpoint is not in MLX format (its norm weights lack the +1 too), convert it with mlx-lm";
    if (any("lora_") || any(".adapter")) return ": merge the adapter into the weights first, for instance with mlx-lm";
    if (const int layers = layers_there(); layers != config_.num_layers() && !(missing_.empty() && left_over.empty()))
      return fmt::format(": config.json has num_hidden_layers {}, but the tensors are those of {} layers",
                         config_.num_layers(), layers);
    if (any("language_model.lm_head.")) return ": config.json has tie_word_embeddings true, but the head is another";
    if (missing_.empty()) return "";
    const WeightMap index = read_index(checkpoint_.directory());
    const auto files = files_of(checkpoint_.directory());
    for (const auto& [tensor_name, shard] : index)
      if (const auto own = canonical_name(tensor_name);
          own && absent_.count(*own) != 0 && std::find(files.begin(), files.end(), shard) == files.end())
        return fmt::format(": {} has it in {}, which is not there: the download is incomplete", index_file,
                           shown(shard));
    return "";
  }

  /// `shape` is logical: [out, in] or [count, out, in].
  void bind(Matrix& to, const std::string& module, const Shape& shape, int count) {
    to.count = count;
    to.out = static_cast<int>(shape[shape.size() - 2]);
    to.in = static_cast<int>(shape.back());
    if (checkpoint_.find(module + ".scales")) return bind_quantized(to, module, shape);

    const Tensor* weight = find(module + ".weight");
    if (!weight) return;
    if (weight->dtype == DType::u32) {
      used_.insert(module + ".biases");
      return misfit(module + ".weight", *weight, "a tensor " + module + ".scales next to it, which is missing");
    }
    if (!floating(weight->dtype) || weight->shape != shape)
      return misfit(module + ".weight", *weight, describe(DType::bf16, shape));
    // Without scales a module is not quantized, whatever the default says (as mlx-lm has it); an entry of its own must
    // hold.
    const auto own = config_.overrides.find(module);
    if (own != config_.overrides.end() && own->second.bits != 0)
      contradiction(module, fmt::format("is said to have {} bits, but its weight is {} without scales",
                                        own->second.bits, describe(*weight)));
    to.storage = weight->dtype == DType::bf16  ? Matrix::Storage::bf16
                 : weight->dtype == DType::f16 ? Matrix::Storage::f16
                                               : Matrix::Storage::f32;
    to.weight = weight->bytes.data();
  }

  void bind_quantized(Matrix& to, const std::string& module, const Shape& shape) {
    const std::string weight_name = module + ".weight", scales_name = module + ".scales",
                      biases_name = module + ".biases";
    const Tensor *weight = find(weight_name), *scales = find(scales_name), *biases = find(biases_name);
    if (!weight || !scales || !biases) return;
    Shape groups = shape;
    groups.back() = shape.back() / Matrix::group;
    if (shape.back() % Matrix::group != 0)
      return misfit(
          scales_name, *scales,
          fmt::format("no scales: {} inputs are no multiple of the group of {}", shape.back(), Matrix::group));
    for (const auto& [side_name, side] : {std::pair(&scales_name, scales), std::pair(&biases_name, biases)})
      if (side->dtype != DType::bf16 || side->shape != groups)
        return misfit(*side_name, *side, describe(DType::bf16, groups));

    // bits = 32 * words / (groups * 64): the shapes are the truth, the config must agree.
    const Quantization said = quantization_of(config_, module);
    const auto packed = [&](int bits) {
      Shape words = shape;
      words.back() = shape.back() * bits / 32;
      return words;
    };
    int bits = 0;
    for (const int candidate : {4, 8})
      if (weight->dtype == DType::u32 && weight->shape == packed(candidate)) bits = candidate;
    if (bits == 0) return misfit(weight_name, *weight, describe(DType::u32, packed(said.bits == 0 ? 4 : said.bits)));
    if (said.bits != bits)
      contradiction(module, said.bits == 0
                                ? fmt::format("is said not to be quantized, but its weight {} and scales {} are {} "
                                              "bits per value",
                                              describe(*weight), describe(*scales), bits)
                                : fmt::format("is said to have {} bits, but its weight {} and scales {} are {} bits "
                                              "per value",
                                              said.bits, describe(*weight), describe(*scales), bits));
    to.storage = bits == 4 ? Matrix::Storage::q4 : Matrix::Storage::q8;
    to.weight = weight->bytes.data();
    to.scales = scales->bytes.data();
    to.biases = biases->bytes.data();
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  std::set<std::string, std::less<>> used_, absent_;
  std::vector<std::string> missing_, misfits_;
  bool unconverted_ = false;
};

/// Lists what a checkpoint as MLX writes it holds.
class Lister {
 public:
  explicit Lister(const ModelConfig& config) : config_(config) {}

  void matrix(Matrix&, const std::string& module, const char* kind, int out, int in) { list(module, kind, {out, in}); }
  void experts(Matrix&, const std::string& module, const char* kind, int count, int out, int in) {
    list(module, kind, {count, out, in});
  }
  void vector(Vector&, const std::string& tensor_name, const char* kind, Shape shape, DType usual) {
    add(tensor_name, usual, std::move(shape), kind);
  }
  std::vector<ExpectedTensor> take() { return std::move(tensors_); }

 private:
  void list(const std::string& module, const char* kind, const Shape& shape) {
    const Quantization quantization = quantization_of(config_, module);
    if (quantization.bits == 0 || shape.back() % Matrix::group != 0)
      return add(module + ".weight", DType::bf16, shape, kind);
    Shape words = shape, groups = shape;
    words.back() = shape.back() * quantization.bits / 32;
    groups.back() = shape.back() / Matrix::group;
    add(module + ".weight", DType::u32, words, kind);
    add(module + ".scales", DType::bf16, groups, kind);
    add(module + ".biases", DType::bf16, groups, kind);
  }
  void add(const std::string& tensor_name, DType dtype, Shape shape, const char* kind) {
    std::uint64_t bytes = size_of(dtype);
    for (const std::int64_t extent : shape) bytes *= static_cast<std::uint64_t>(extent);
    tensors_.push_back({tensor_name, dtype, std::move(shape), kind, bytes});
  }

  const ModelConfig& config_;
  std::vector<ExpectedTensor> tensors_;
};

}  // namespace

std::size_t Matrix::row_bytes() const {
  const auto values = static_cast<std::size_t>(in);
  switch (storage) {
    case Storage::q4:
      return values / 2;
    case Storage::q8:
      return values;
    case Storage::bf16:
    case Storage::f16:
      return values * 2;
    case Storage::f32:
      return values * 4;
  }
  return 0;
}

Matrix Matrix::expert(int index) const {
  return rows(index * out, out);
}

Matrix Matrix::rows(int first, int size) const {
  Matrix part = *this;
  part.count = 1;
  part.out = size;
  const auto before = static_cast<std::size_t>(first);
  part.weight = weight + before * row_bytes();
  if (quantized()) {
    const std::size_t scale_bytes = before * static_cast<std::size_t>(in / group) * 2;
    part.scales = scales + scale_bytes;
    part.biases = biases + scale_bytes;
  }
  return part;
}

float Vector::element(int index) const {
  const auto i = static_cast<std::size_t>(index);
  if (dtype == DType::f32) return load<float>(data + 4 * i);
  const auto bits = load<std::uint16_t>(data + 2 * i);
  return dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

std::vector<float> Vector::to_f32() const {
  std::vector<float> values(static_cast<std::size_t>(size));
  for (int i = 0; i < size; ++i) values[static_cast<std::size_t>(i)] = element(i);
  return values;
}

Weights bind_weights(const Checkpoint& checkpoint, const ModelConfig& config) {
  Weights weights;
  Binder binder(checkpoint, config);
  visit_weights(config, weights, binder);
  binder.finish();
  if (config.tie_word_embeddings) weights.lm_head = weights.embed_tokens;
  return weights;
}

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  Weights unused;
  Lister lister(config);
  visit_weights(config, unused, lister);
  return lister.take();
}

}  // namespace tqkv

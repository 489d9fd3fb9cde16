// The two kernels in Metal: attention of one query over codes as they are stored, and the encoding of turboquant. A
// call is built apart from its run, so that a test runs the same call in an emulator.
#pragma once
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/mlx/codec.h"
#include "runtime/mlx/self_test.h"

namespace tqkv::mlx {

/// What mx::fast::metal_kernel takes for one call.
struct KernelCall {
  std::string name;  ///< holds every number of `header`: two texts never share it
  std::vector<std::string> input_names, output_names;
  std::string header, source;
  std::vector<mx::array> inputs;
  std::vector<mx::Shape> shapes;                     ///< of the outputs
  std::vector<mx::Dtype> types;                      ///< of the outputs
  std::array<int, 3> grid{1, 1, 1}, group{1, 1, 1};  ///< threads
};
using RunKernel = std::function<std::vector<mx::array>(const KernelCall& call)>;
/// The outputs, computed by Metal when they are evaluated. An error of the compiler comes then, too.
std::vector<mx::array> run_on_metal(const KernelCall& call);

// ---- attention of one query

/// Sums over a run of tokens, not yet divided, piece by piece: what join() puts together. All float32.
struct Partial {
  mx::array
      values;  ///< [heads, pieces, dim], values weighted with exp(score - maximum), in the basis they are stored in
  mx::array maximum;  ///< [heads, pieces], of the scores
  mx::array sum;      ///< [heads, pieces], of the weights
};

/// How the work of a KV head is shared in a threadgroup: `runs` of tokens, and in each of them `teams` simdgroups with
/// `heads_each` query heads, `tokens` at once. `parts` threadgroups share the query heads of a KV head.
struct AttentionPlan {
  int heads_each = 1, teams = 1, parts = 1, runs = 1, tokens = 4;
};
AttentionPlan attention_plan(int heads, int kv_heads, int dim);

/// What the tokens of one side are stored as.
struct StoredSide {
  SideFormat format;
  Payload payload;  ///< [kv heads, capacity, width] each
};

/// A query over tokens first..last-1 of both sides; there is at least one.
struct AttentionInput {
  mx::array query;  ///< [heads, dim] float32, scaled, in the basis of the keys
  StoredSide keys, values;
  int first = 0, last = 0;
  std::optional<mx::array> mean_scores = {};  ///< [heads] float32, added to the scores of tokens from mean_from on
  int mean_from = 0;
};

/// Whether attend() computes it: turboquant or bf16 on each side, and 64, 128 or 256 channels.
bool has_kernel(const SideFormat& keys, const SideFormat& values, int heads, int kv_heads, int dim);
KernelCall attention_call(const AttentionInput& input, const AttentionPlan& plan);
Partial attend(const RunKernel& run, const AttentionInput& input);
/// The same from operations of MLX, for every format of the engine: affine codes are read by MLX's products, others are
/// decoded first.
Partial attend_plain(const AttentionInput& input);
/// As one piece: [heads, 1, dim], [heads, 1], [heads, 1].
Partial as_one(const std::vector<Partial>& partials);
/// -> [heads, dim], divided. Partials of the same query over tokens that follow one another or not.
mx::array join(const std::vector<Partial>& partials);

// ---- encoding

KernelCall encode_call(const SideFormat& format, const mx::array& x, const mx::array& signs);
/// Rotates and encodes x [kv heads, tokens, dim] float32; signs [kv heads, 1, dim] are those of the rotation.
Payload encode(const RunKernel& run, const SideFormat& format, const mx::array& x, const mx::array& signs);
/// The same from operations of MLX.
Payload encode_plain(const SideFormat& format, const mx::array& x, const mx::array& signs);

// ---- self-test

/// Both kernels against the plain path, for a layer of this shape. What throws counts as failed.
struct KernelShape {
  SideFormat keys, values;
  int heads = 0, kv_heads = 0, dim = 0;
};
/// Of the texts of both kernels for such a layer.
std::string kernel_text_digest(const KernelShape& shape);
std::vector<SelfCheck> kernel_checks(const RunKernel& run, const KernelShape& shape);

/// Seconds of the attention of one query over `tokens` tokens of a layer of `shape`: of the kernel on its sides, of the
/// kernel on bf16, of MLX's attention on bf16.
struct AttentionTimes {
  double kernel = 0, kernel_plain = 0, mlx_plain = 0;
};
AttentionTimes attention_times(const RunKernel& run, const KernelShape& shape, int tokens);

}  // namespace tqkv::mlx

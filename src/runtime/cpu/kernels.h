// The kernels of the CPU runtime: one table of functions for each instruction set, all with the same meaning. The
// generic algorithms stand once in kernels/*-inl.h (Highway); kernels_<family>.cpp are compiled with them for each
// instruction set (kernels.cmake). Integer dot products, which Highway lacks, stand in kernels/dot_<isa>-inl.h and
// kernels/packed_<isa>-inl.h.
//
// Every function works on plain memory, allocates nothing, throws nothing, and gives results that depend on its
// arguments alone. Weights and cache bytes may lie at any address; float arrays are aligned to 64 bytes where they
// start.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "codec/side_codec.h"
#include "model/weights.h"

namespace tqkv::cpu {

/// Rows of activations in 16 bits, in two planes of 8: x ≈ scale * q in each group of 64, q = 256 high + low,
/// |q| <= 32639. cols is a multiple of 64. The high plane alone is x in 8 bits: x ≈ high_scale * high.
struct Rows16 {
  int rows = 0, cols = 0;
  std::int8_t* high = nullptr;  // [rows, cols], natural order
  std::int8_t* low = nullptr;   // [rows, cols]
  float* scale = nullptr;       // [rows, cols/64]; 0 for a group of zeros
  float* sum = nullptr;         // [rows, cols/64]: scale * (sum of q), what the weight's bias multiplies
  float* high_scale = nullptr;  // [rows, cols/64]: 256 * scale
  float* high_sum = nullptr;    // [rows, cols/64]: high_scale * (sum of high)

  /// The same from row `row` on.
  Rows16 from(int row) const {
    const std::ptrdiff_t at = std::ptrdiff_t{row} * cols, group = std::ptrdiff_t{row} * (cols / 64);
    return {rows - row, cols, high + at, low + at, scale + group, sum + group, high_scale + group, high_sum + group};
  }
};

/// Which planes of the activations a product takes: the high one alone halves the multiplications.
enum class Planes { both, high };

/// In which order multiply_f32 adds up a product: along a row of weights, lane by lane, or channel by channel of a tile
/// of rows. The bits of a row of y follow from the order, never from the other rows of the call.
enum class Additions { along_rows, by_tile };

/// One row of activations in 16 bits: x ≈ scale * q in each group of 64, q = 256 high + low, |q| <= 32639.
struct Row16 {
  int cols = 0;
  std::int16_t* q = nullptr;  // [cols], natural order (8-bit weights)
  // 4-bit weights: [cols], in each 128 channels the 64 even ones, then the 64 odd ones; a last 64 likewise.
  std::int8_t* high = nullptr;
  std::int8_t* low = nullptr;  // [cols], the same order
  float* scale = nullptr;      // [cols/64]
  float* sum = nullptr;        // [cols/64]
};

struct MatrixKernels {
  /// Quantizes x [rows, cols] (row r at x + r * stride) into rows `first`.. of `out`: scale = absmax / 32639.
  void (*quantize_rows)(const float* x, int rows, int stride, Rows16* out, int first);
  /// Quantizes x [cols]: scale = absmax / 32639.
  void (*quantize16)(const float* x, Row16* out);
  /// y[t, o] = sum_i W[o, i] x[t, i] for output rows first..last-1 and the `tokens` rows index[0..tokens-1] of x (index
  /// null: rows 0..tokens-1). y points to output row `first` of token 0; token t is at y + t * stride. q4 and q8
  /// weights only.
  void (*multiply_rows)(const Matrix& w, int first, int last, const Rows16& x, Planes planes, const int* index,
                        int tokens, float* y, std::ptrdiff_t stride);
  /// The same for the rows x[index[0..tokens-1]], for few of them: each with the bits that it has alone.
  void (*multiply16)(const Matrix& w, int first, int last, const Row16* x, const int* index, int tokens, float* y,
                     std::ptrdiff_t stride);
  /// The exact path, every storage: f32 arithmetic only. x rows are x + index[t] * x_stride (index null: t). `scratch`
  /// holds f32_scratch(w.in) floats. Along rows is for few tokens, by tile for many.
  void (*multiply_f32)(const Matrix& w, int first, int last, const float* x, std::ptrdiff_t x_stride, const int* index,
                       int tokens, Additions additions, float* y, std::ptrdiff_t stride, float* scratch);
  std::size_t (*f32_scratch)(int in);
  /// out [in] = row `row` of w (embedding).
  void (*dequantize_row)(const Matrix& w, int row, float* out);
};

struct VectorKernels {
  /// out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps), rows of `dim`; out may be x.
  void (*rms_norm)(const float* x, std::ptrdiff_t x_stride, const float* w, int rows, int dim, float eps, float* out,
                   std::ptrdiff_t out_stride);
  /// x[r] <- factor * x[r] / sqrt(sum(x[r]^2) + eps): docs name it the l2 norm.
  void (*l2_norm)(float* x, std::ptrdiff_t stride, int rows, int dim, float eps, float factor);
  void (*add)(float* x, const float* y, std::size_t n);                       // x += y
  void (*add_scaled)(float* x, const float* y, float factor, std::size_t n);  // x += factor * y
  void (*silu_multiply)(const float* gate, const float* up, float* out,
                        std::size_t n);                                  // out = silu(gate) * up; may alias
  void (*sigmoid_multiply)(float* x, const float* gate, std::size_t n);  // x *= sigmoid(gate)
  void (*softmax)(float* x, std::size_t n);                              // in place
  /// RoPE on the first `rotary` channels of each of `heads` rows: pairs (i, i + rotary/2); cosine, sine [rotary/2].
  void (*rope)(float* x, std::ptrdiff_t stride, int heads, int rotary, const float* cosine, const float* sine);
};

/// The largest state of one block of queries in flash attention: running maximum, sum of weights and weighted values.
struct AttentionState {
  int queries = 0, dim = 0;
  const float* query = nullptr;  // [queries, dim], already scaled by 1/sqrt(dim) and rotated where keys are
  float* maximum = nullptr;      // [queries], starts at -infinity
  float* sum = nullptr;          // [queries], starts at 0
  float* output = nullptr;       // [queries, dim], not divided by sum; starts at 0
};

/// A block of queries in 8 bits: query ≈ scale * q in each group of channels that shares a scale in the keys
/// (turboquant: all of them), |q| <= 127. Width and order of the channels are the kernels' own.
struct Queries8 {
  int queries = 0, groups = 0;
  std::byte* q = nullptr;       // [queries, dim] of one or two bytes, aligned to 64 bytes
  float* scale = nullptr;       // [queries, groups]; 0 for a group of zeros
  std::int32_t* sum = nullptr;  // [queries, groups]: of q
};

struct AttentionKernels {
  /// Encodes n vectors (x + i * x_stride, [dim], rotated where the format is) to codes + i * code_bytes and
  /// scalars + i * scalar_bytes. Same bytes as codec::encode, but for the rounding of float sums.
  void (*encode)(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n, std::byte* codes,
                 std::byte* scalars);
  /// Decodes n vectors that lie one behind the other to out [n, codec.space()].
  void (*decode)(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n, float* out);
  /// x[i] <- H D x[i], and D H x[i], for n rows; dim a power of two from 16 to 1024.
  void (*rotate)(float* x, std::ptrdiff_t stride, int n, const float* signs, int dim);
  void (*unrotate)(float* x, std::ptrdiff_t stride, int n, const float* signs, int dim);
  /// One tile of n <= 64 keys and values [n, dim] in f32; query i sees the first visible[i] keys of the tile (0..n).
  /// `scratch` holds queries * 64 floats.
  void (*attend)(AttentionState& state, const float* keys, const float* values, int n, const int* visible,
                 float* scratch);

  // The three steps of attend, for tiles of which one side stays packed. `scores` and `weights` are [queries, 64].
  /// scores[i, j] = <query_i, key_j> for j < visible[i]; what it writes behind them means nothing.
  void (*scores)(const AttentionState& state, const float* keys, int n, const int* visible, float* scores);
  /// Turns scores to weights (0 for keys that a query does not see) and moves maximum, sum and output.
  void (*weigh)(AttentionState& state, int n, const int* visible, float* scores);
  /// output[i] += sum_j weights[i, j] value_j
  void (*add_values)(AttentionState& state, const float* values, int n, const int* visible, const float* weights);

  // The first and the third step straight from n <= 64 vectors as the cache holds them, one behind the other: in
  // integers where they are packed, in products of bf16 where they are plain (kernels/packed-inl.h has the arithmetic).
  /// Whether there are such kernels for vectors in this format; the others must not be called where not. A block of
  /// queries keeps to one way for each side.
  bool (*packed_keys)(const codec::SideCodec& codec);
  bool (*packed_values)(const codec::SideCodec& codec);
  /// Bytes of the scratch of the next functions, aligned to 64 bytes.
  std::size_t (*packed_scratch)(int queries, int dim);
  /// Rounds query [queries, dim] to 8 bits for keys of `codec`: scale = absmax / 127.
  void (*quantize_queries)(const codec::SideCodec& codec, const float* query, int queries, Queries8* out);
  void (*packed_scores)(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                        const Queries8& queries, const int* visible, float* scores, std::byte* scratch);
  /// As add_values, but for the order of channels of `output`, the kernels' own until natural_order has brought it
  /// back.
  void (*add_packed_values)(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                            AttentionState& state, const int* visible, const float* weights, std::byte* scratch);
  void (*natural_order)(const codec::SideCodec& codec, AttentionState& state);
};

struct DeltaKernels {
  /// Causal depthwise convolution and SiLU. u [tokens + kernel - 1, channels] (the first kernel - 1 rows are the past),
  /// w [kernel, channels] (tap-major, at the same stride as u, the last tap is the current token) -> out [tokens,
  /// channels], for channels first..last-1.
  void (*convolve)(const float* u, std::ptrdiff_t stride, const float* w, int kernel, int tokens, int first, int last,
                   float* out, std::ptrdiff_t out_stride);
  /// One token of the gated delta rule for one value head, in one pass over the state [value_dim, key_dim] (f32):
  /// S <- g S; d = beta (v - S k); S <- S + d k^T; out = S q.
  void (*step)(float* state, const float* q, const float* k, const float* v, float g, float beta, int key_dim,
               int value_dim, float* out);
  /// `tokens` <= 64 of them in chunked form (docs/architecture.md): q, k rows at stride qk_stride, v and out rows at
  /// v_stride and out_stride; log_g, beta [tokens]. `scratch` holds chunk_scratch(key_dim, value_dim) floats.
  void (*chunk)(float* state, const float* q, const float* k, std::ptrdiff_t qk_stride, const float* v,
                std::ptrdiff_t v_stride, const float* log_g, const float* beta, int tokens, int key_dim, int value_dim,
                float* out, std::ptrdiff_t out_stride, float* scratch);
  std::size_t (*chunk_scratch)(int key_dim, int value_dim);
};

struct Kernels {
  const char* isa;  // "avx512", "avx2", "neon", "portable"
  const MatrixKernels& matrix;
  const VectorKernels& vector;
  const AttentionKernels& attention;
  const DeltaKernels& delta;
};

/// The instruction sets that this program was compiled for and this processor has, best first; "portable" is always
/// there.
std::vector<std::string_view> available_isas();
/// The kernels of one of them; empty: the best. Throws Error(usage) for one that is not available.
const Kernels& kernels(std::string_view isa = {});

}  // namespace tqkv::cpu

// Matrix products in float32 for one core: vectors, blocks of sums that stay in registers, and
// matrices laid out in the order in which a product reads them.

#ifndef RNN_JAX_KERNELS_CPP_PRODUCTS_H_
#define RNN_JAX_KERNELS_CPP_PRODUCTS_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace rnn_jax {

// A vector register's entries, and for how many sums beside others there are registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kSums = 24;
#elif defined(__AVX__)
constexpr int kLanes = 8, kSums = 9;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kSums = 24;
#else
constexpr int kLanes = 4, kSums = 9;
#endif
constexpr int kColumns = 4;  // vectors of sums in a row
// Rows of so many vectors of sums.
constexpr int RowsOf(int vectors) { return std::min(kSums / vectors, 6); }

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));

inline Vec Load(const float* from) {
  Vec values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

// The first `count` lanes, zeros in the others.
inline Vec Load(const float* from, int64_t count) {
  if (count >= kLanes) return Load(from);
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps((1u << count) - 1, from);
#else
  Vec values = {};
  std::memcpy(&values, from, count * sizeof(float));
  return values;
#endif
}

inline void Store(float* to, Vec values, int64_t count) {
  if (count >= kLanes) {
    std::memcpy(to, &values, sizeof values);
  } else {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, (1u << count) - 1, values);
#else
    std::memcpy(to, &values, count * sizeof(float));
#endif
  }
}

inline void AddTo(float* to, Vec values, int64_t count) {
  Store(to, Load(to, count) + values, count);
}

// x P(x^2) / Q(x^2), fitted to tanh in [-9, 9] by reweighted least squares, relative error 2.1e-8
// before rounding. NaN stays NaN.
inline Vec Tanh(Vec x) {
  const Vec top = Vec{} + 9.0f, one = Vec{} + 1.0f;
  x = x > top ? top : x;
  x = x < -top ? -top : x;
  const Vec y = x * x;
  const Vec p =
      (((1.33542484e-8f * y + 2.0608777e-5f) * y + 3.49556957e-3f) * y + 0.133810103f) * y + 1.0f;
  const Vec q =
      (((7.77638661e-7f * y + 3.28560447e-4f) * y + 2.58769114e-2f) * y + 0.467143267f) * y + 1.0f;
  const Vec result = x * p / q;
  const Vec below = result > one ? one : result;
  return below < -one ? -one : below;
}

typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(float))));

// e^x = 2^n e^r with |r| <= ln(2) / 2, and Taylor's sixth polynomial for e^r; relative
// error 2.3e-7. Infinity from 88.4 on, no more than 1e-38 below -87.3; NaN stays NaN.
inline Vec Exp(Vec x) {
  const Vec top = Vec{} + 88.7f, bottom = Vec{} - 88.0f;
  x = x > top ? top : x;
  x = x < bottom ? bottom : x;
  const Vec shift = Vec{} + 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded
  const Vec shifted = x * 1.44269504f + shift, n = shifted - shift;
  const Vec r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  const Vec third = ((1.38888889e-3f * r + 8.33333333e-3f) * r + 4.16666667e-2f) * r + 0.166666667f;
  const Vec e = ((third * r + 0.5f) * r + 1.0f) * r + 1.0f;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127 << 23);  // shifted holds n in its lowest bits
  Vec scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return e * scale;
}

// The logistic function itself: from Tanh(x / 2) it would have no small values.
inline Vec Sigmoid(Vec x) { return 1.0f / (1.0f + Exp(-x)); }

// What a thread's parts work on, aligned for vectors and undefined at first. Up to kMost stays with
// the thread from one part to the next: memory that goes back to the system is new to the processor
// at every call, and touching it first would take as long as a small part.
class Workspace {
 public:
  // This thread's, with nothing taken; what its last part took is gone.
  static Workspace& Begin() {
    thread_local Workspace own;
    int64_t total = 0;
    for (const Block& block : own.blocks_) total += block.size;
    if (own.blocks_.size() > 1 || total > kMost) {
      own.blocks_.clear();
      if (total <= kMost) own.Add(total);
    }
    own.taken_ = 0;
    return own;
  }

  float* Take(int64_t size) {
    size = (size + kLine - 1) / kLine * kLine;
    if (blocks_.empty() || blocks_.back().size - taken_ < size) {
      Add(std::max(size, kLeast));
      taken_ = 0;
    }
    taken_ += size;
    return blocks_.back().values.get() + taken_ - size;
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(float);
  static constexpr int64_t kLeast = 1 << 14, kMost = 1 << 23;  // 64 KiB and 32 MiB

  struct Free {
    void operator()(float* values) const { std::free(values); }
  };
  struct Block {
    int64_t size;
    std::unique_ptr<float, Free> values;
  };

  void Add(int64_t size) {
    float* values = static_cast<float*>(std::aligned_alloc(64, size * sizeof(float)));
    if (!values) throw std::bad_alloc();
    blocks_.push_back({size, std::unique_ptr<float, Free>(values)});
  }

  std::vector<Block> blocks_;
  int64_t taken_ = 0;  // of the last block
};

// Calls f(first, M) for groups of `count` rows of so many vectors, M a constant of the compiler.
template <int vectors, typename F>
void InGroups(int64_t count, const F& f) {
  constexpr int kRows = RowsOf(vectors);
  static_assert(kRows >= 2 && kRows <= 6, "the sizes below");
  const int64_t groups = (count + kRows - 1) / kRows;
  for (int64_t n = 0; n < groups; ++n) {
    const int64_t first = n * count / groups, size = (n + 1) * count / groups - first;
    if (size == 1) f(first, std::integral_constant<int, 1>{});
    if (size == 2) f(first, std::integral_constant<int, 2>{});
    if constexpr (kRows > 2) {
      if (size == 3) f(first, std::integral_constant<int, 3>{});
    }
    if constexpr (kRows > 3) {
      if (size == 4) f(first, std::integral_constant<int, 4>{});
    }
    if constexpr (kRows > 4) {
      if (size == 5) f(first, std::integral_constant<int, 5>{});
      if (size == 6) f(first, std::integral_constant<int, 6>{});
    }
  }
}

// Calls f(first, N) for blocks of at most kColumns vectors of `columns`, N a constant.
template <typename F>
void InBlocks(int64_t columns, const F& f) {
  static_assert(kColumns == 4, "the sizes below");
  int64_t first = 0;
  while (columns - first > 3 * kLanes) {
    f(first, std::integral_constant<int, 4>{});
    first += kColumns * kLanes;
  }
  if (columns - first > 2 * kLanes)
    f(first, std::integral_constant<int, 3>{});
  else if (columns - first > kLanes)
    f(first, std::integral_constant<int, 2>{});
  else if (columns > first)
    f(first, std::integral_constant<int, 1>{});
}

// M rows of N vectors of sums, which must stay in registers: whoever adds to them owns a copy,
// since the compiler cannot know that other arrays lie elsewhere.
template <int M, int N>
struct Block {
  Vec sums[M][N] = {};
};

// Keeps a vector in a register: from memory, again for each row, it would be loaded more often than
// there are ports for.
inline Vec Held(Vec values) {
#if defined(__AVX__)
  asm("" : "+v"(values));
#endif
  return values;
}

// block[m] + rows[m] @ matrix, with matrix [depth, N vectors].
template <int M, int N>
inline Block<M, N> Multiplied(Block<M, N> block, const float* const* rows, const float* matrix,
                              int64_t depth) {
  const float* row[M];
  for (int m = 0; m < M; ++m) row[m] = rows[m];
  for (int64_t k = 0; k < depth; ++k, matrix += N * kLanes) {
    Vec entries[N];
    for (int n = 0; n < N; ++n) entries[n] = Held(Load(matrix + n * kLanes));
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) block.sums[m][n] += row[m][k] * entries[n];
    }
  }
  return block;
}

// Rows of a chunk, one below the other; each as whole blocks, and an odd number of vectors, so that
// a column's entries do not compete for one place in the cache. Blocks that begin within a row may
// read beyond its end.
struct Rows {
  Rows(Workspace& workspace, int64_t count, int64_t columns)
      : stride((columns + kColumns * kLanes - 1) / (kColumns * kLanes) * (kColumns * kLanes) +
               kLanes),
        values(workspace.Take(count * stride + kColumns * kLanes)) {
    for (int64_t row = 0; row < count; ++row) {
      std::fill_n((*this)[row] + columns, stride - columns, 0.0f);
    }
  }
  float* operator[](int64_t row) const { return values + row * stride; }
  // Where some of its rows begin, from a column on.
  std::vector<float*> From(int64_t top, int64_t count, int64_t column = 0) const {
    std::vector<float*> found(count);
    for (int64_t n = 0; n < count; ++n) found[n] = (*this)[top + n] + column;
    return found;
  }

  int64_t stride;
  float* values;
};

// The sum over `count` rows of values[row][m] times d_sums[row], M rows of it and N vectors.
template <int M, int N>
inline Block<M, N> Outer(const float* values, int64_t stride, const float* d_sums, int64_t d_stride,
                         int64_t count) {
  Block<M, N> block;
  for (int64_t row = 0; row < count; ++row, values += stride, d_sums += d_stride) {
    Vec entries[N];
    for (int n = 0; n < N; ++n) entries[n] = Held(Load(d_sums + n * kLanes));
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) block.sums[m][n] += values[m] * entries[n];
    }
  }
  return block;
}

// Some columns of a matrix that has more: its first entry, how many columns, and a row's length.
template <typename T>
struct Columns {
  T* values;
  int64_t count, stride;
};

// A matrix [depth, columns], as for each block of InBlocks(columns), [depth, block].
struct Packed {
  const float* values;
  int64_t depth, columns;
};

Packed PackColumns(Workspace& workspace, Columns<const float> weights, int64_t depth);
// The transpose of weights [in, depth].
Packed PackTransposed(Workspace& workspace, Columns<const float> weights, int64_t in);

// to = rows @ weights, for `count` rows, plus what `to` holds if they are added, plus a bias
// [columns], or null.
void Product(const float* const* rows, int64_t count, const Packed& weights, const float* bias,
             bool added, float* const* to);

// outer [in, columns] += values' d_sums, over the first `count` rows of both; of d_sums from column
// `from` on.
void AddOuter(const Rows& values, int64_t in, const Rows& d_sums, int64_t from, int64_t count,
              Columns<float> outer);

// sums += the first `count` rows.
void AddRows(const Rows& rows, int64_t count, int64_t columns, float* sums);

// [in, gates * hidden] -> for each vector of units, [in, gates, vector]; a row may be longer.
template <int gates>
const float* PackGates(Workspace& workspace, const float* weights, int64_t in, int64_t hidden,
                       int64_t stride) {
  const int64_t vectors = (hidden + kLanes - 1) / kLanes;
  float* const packed = workspace.Take(vectors * in * gates * kLanes);
  float* to = packed;
  for (int64_t unit = 0; unit < hidden; unit += kLanes) {
    for (int64_t k = 0; k < in; ++k) {
      for (int64_t gate = 0; gate < gates; ++gate, to += kLanes) {
        Store(to, Load(weights + k * stride + gate * hidden + unit, hidden - unit), kLanes);
      }
    }
  }
  return packed;
}

}  // namespace rnn_jax

#endif  // RNN_JAX_KERNELS_CPP_PRODUCTS_H_

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

// A vector register, and as many rows of four sums as there are registers for.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 6;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRows = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRows = 6;
#else
constexpr int kLanes = 4, kRows = 2;
#endif
constexpr int kColumns = 4;  // vectors of sums in a row
static_assert(kRows <= 6 && kColumns == 4, "InGroups and InBlocks know these sizes");

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

// Calls f(first, M) for groups of at most kRows of `count` rows, M a constant of the compiler.
template <typename F>
void InGroups(int64_t count, const F& f) {
  const int64_t groups = (count + kRows - 1) / kRows;
  for (int64_t n = 0; n < groups; ++n) {
    const int64_t first = n * count / groups, size = (n + 1) * count / groups - first;
    if (size == 1) f(first, std::integral_constant<int, 1>{});
    if (size == 2) f(first, std::integral_constant<int, 2>{});
    if constexpr (kRows > 2) {
      if (size == 3) f(first, std::integral_constant<int, 3>{});
      if (size == 4) f(first, std::integral_constant<int, 4>{});
      if (size == 5) f(first, std::integral_constant<int, 5>{});
      if (size == 6) f(first, std::integral_constant<int, 6>{});
    }
  }
}

// Calls f(first, N) for blocks of at most kColumns vectors of `columns`, N a constant.
template <typename F>
void InBlocks(int64_t columns, const F& f) {
  int64_t first = 0;
  while (columns - first > 2 * kLanes) {
    f(first, std::integral_constant<int, kColumns>{});
    first += kColumns * kLanes;
  }
  if (columns - first > kLanes)
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

// block[m] + rows[m] @ matrix, with matrix [depth, N vectors].
template <int M, int N>
inline Block<M, N> Multiplied(Block<M, N> block, const float* const* rows, const float* matrix,
                              int64_t depth) {
  const float* row[M];
  for (int m = 0; m < M; ++m) row[m] = rows[m];
  for (int64_t k = 0; k < depth; ++k, matrix += N * kLanes) {
    Vec entries[N];
    for (int n = 0; n < N; ++n) entries[n] = Load(matrix + n * kLanes);
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) block.sums[m][n] += row[m][k] * entries[n];
    }
  }
  return block;
}

// Rows of a chunk, one below the other; each as whole blocks, and an odd number of vectors, so that
// a column's entries do not compete for one place in the cache.
struct Rows {
  Rows(Workspace& workspace, int64_t count, int64_t columns)
      : stride((columns + kColumns * kLanes - 1) / (kColumns * kLanes) * (kColumns * kLanes) +
               kLanes),
        values(workspace.Take(count * stride)) {
    for (int64_t row = 0; row < count; ++row) {
      std::fill_n((*this)[row] + columns, stride - columns, 0.0f);
    }
  }
  float* operator[](int64_t row) const { return values + row * stride; }

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
    for (int n = 0; n < N; ++n) entries[n] = Load(d_sums + n * kLanes);
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) block.sums[m][n] += values[m] * entries[n];
    }
  }
  return block;
}

// outer [in, columns] += values' d_sums, over the first `count` rows of both.
inline void AddOuter(const Rows& values, int64_t in, const Rows& d_sums, int64_t columns,
                     int64_t count, float* outer) {
  InBlocks(columns, [&](int64_t column, auto n_vectors) {
    constexpr int N = decltype(n_vectors)::value;
    InGroups(in, [&](int64_t i, auto n_rows) {
      constexpr int M = decltype(n_rows)::value;
      const Block<M, N> block =
          Outer<M, N>(values[0] + i, values.stride, d_sums[0] + column, d_sums.stride, count);
      for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
          const int64_t at = column + n * kLanes;
          if (at < columns) AddTo(outer + (i + m) * columns + at, block.sums[m][n], columns - at);
        }
      }
    });
  });
}

// [in, columns] -> for each block of InBlocks(columns), [in, block].
inline const float* PackColumns(Workspace& workspace, const float* weights, int64_t in,
                                int64_t columns) {
  float* packed = workspace.Take(in * (columns + kColumns * kLanes));
  InBlocks(columns, [&](int64_t first, auto n_vectors) {
    constexpr int N = decltype(n_vectors)::value;
    float* to = packed + in * first;
    for (int64_t k = 0; k < in; ++k) {
      for (int64_t n = 0, at = first; n < N; ++n, at += kLanes, to += kLanes) {
        Store(to, Load(weights + k * columns + at, std::max<int64_t>(columns - at, 0)), kLanes);
      }
    }
  });
  return packed;
}

// [in, columns] -> for each block of InBlocks(in), its columns of the transpose, [columns, block].
inline const float* PackTransposed(Workspace& workspace, const float* weights, int64_t in,
                                   int64_t columns) {
  float* packed = workspace.Take((in + kColumns * kLanes) * columns);
  InBlocks(in, [&](int64_t first, auto n_vectors) {
    constexpr int64_t width = decltype(n_vectors)::value * kLanes;
    const int64_t count = std::min(width, in - first);
    float* to = packed + first * columns;
    if (count < width) std::fill_n(to, columns * width, 0.0f);
    for (int64_t k = 0; k < columns; k += kLanes) {  // as much as a line of the cache at a time
      for (int64_t n = 0; n < count; ++n) {
        const float* from = weights + (first + n) * columns;
        for (int64_t i = k; i < std::min(k + kLanes, columns); ++i) to[i * width + n] = from[i];
      }
    }
  });
  return packed;
}

}  // namespace rnn_jax

#endif  // RNN_JAX_KERNELS_CPP_PRODUCTS_H_

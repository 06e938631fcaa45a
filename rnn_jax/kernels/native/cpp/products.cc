#include "products.h"

namespace rnn_jax {

void AddOuter(const Rows& values, int64_t in, const Rows& d_sums, int64_t from, int64_t count,
              Columns<float> outer) {
  InBlocks(outer.count, [&](int64_t column, auto n_vectors) {
    constexpr int N = decltype(n_vectors)::value;
    InGroups<N>(in, [&](int64_t i, auto n_rows) {
      constexpr int M = decltype(n_rows)::value;
      const Block<M, N> block = Outer<M, N>(values[0] + i, values.stride, d_sums[0] + from + column,
                                            d_sums.stride, count);
      for (int m = 0; m < M; ++m) {
        float* const row = outer.values + (i + m) * outer.stride;
        for (int64_t n = 0, at = column; n < N && at < outer.count; ++n, at += kLanes) {
          AddTo(row + at, block.sums[m][n], outer.count - at);
        }
      }
    });
  });
}

void AddRows(const Rows& rows, int64_t count, int64_t columns, float* sums) {
  for (int64_t n = 0; n < count; ++n) {
    const float* row = rows[n];
    for (int64_t k = 0; k < columns; ++k) sums[k] += row[k];
  }
}

void Product(const float* const* rows, int64_t count, const Packed& weights, const float* bias,
             bool added, float* const* to) {
  const int64_t columns = weights.columns;
  InBlocks(columns, [&](int64_t first, auto n_vectors) {
    constexpr int N = decltype(n_vectors)::value;
    Vec shift[N] = {};
    for (int64_t n = 0, at = first; bias && n < N && at < columns; ++n, at += kLanes) {
      shift[n] = Load(bias + at, columns - at);
    }
    InGroups<N>(count, [&](int64_t row, auto n_rows) {
      constexpr int M = decltype(n_rows)::value;
      Block<M, N> block;
      for (int m = 0; added && m < M; ++m) {
        for (int64_t n = 0, at = first; n < N && at < columns; ++n, at += kLanes) {
          block.sums[m][n] = Load(to[row + m] + at, columns - at);
        }
      }
      block = Multiplied(block, rows + row, weights.values + first * weights.depth, weights.depth);
      for (int m = 0; m < M; ++m) {
        for (int64_t n = 0, at = first; n < N && at < columns; ++n, at += kLanes) {
          Store(to[row + m] + at, block.sums[m][n] + shift[n], columns - at);
        }
      }
    });
  });
}

Packed PackColumns(Workspace& workspace, Columns<const float> weights, int64_t depth) {
  const int64_t columns = weights.count;
  float* packed = workspace.Take(depth * (columns + kColumns * kLanes));
  InBlocks(columns, [&](int64_t first, auto n_vectors) {
    constexpr int N = decltype(n_vectors)::value;
    float* to = packed + depth * first;
    for (int64_t k = 0; k < depth; ++k) {
      const float* const row = weights.values + k * weights.stride;
      for (int64_t n = 0, at = first; n < N; ++n, at += kLanes, to += kLanes) {
        Store(to, Load(row + at, std::max<int64_t>(columns - at, 0)), kLanes);
      }
    }
  });
  return {packed, depth, columns};
}

Packed PackTransposed(Workspace& workspace, Columns<const float> weights, int64_t in) {
  const int64_t depth = weights.count;
  float* packed = workspace.Take((in + kColumns * kLanes) * depth);
  InBlocks(in, [&](int64_t first, auto n_vectors) {
    constexpr int64_t width = decltype(n_vectors)::value * kLanes;
    const int64_t count = std::min(width, in - first);
    float* to = packed + first * depth;
    if (count < width) std::fill_n(to, depth * width, 0.0f);
    for (int64_t k = 0; k < depth; k += kLanes) {  // as much as a line of the cache at a time
      for (int64_t n = 0; n < count; ++n) {
        const float* from = weights.values + (first + n) * weights.stride;
        for (int64_t i = k; i < std::min(k + kLanes, depth); ++i) to[i * width + n] = from[i];
      }
    }
  });
  return {packed, depth, in};
}

}  // namespace rnn_jax

// Linear recurrences in float32 for CPUs, h_t = a_t * h_{t-1} + b_t by entries, forwards and
// backwards, as two calls that XLA makes.
//
// A part is some features of some rows, from the first step to the last, on one core. Each entry of
// each array is read or written once: memory is the limit, so a row's features are divided only
// where there are fewer rows than cores.
//
// A recurrence may be complex: then the first half of the features are real parts, the second half
// imaginary ones: that is the call's variant. Arrays are [batch, time, features], contiguous.

#include <algorithm>
#include <cstdint>

#include "calls.h"

namespace rnn_jax {
namespace {

constexpr int64_t kFewest = 16;  // features of a part

// `to = a * x + b` and `to = conj(a) * x + b` for the features of a part: `n` of them, whose
// imaginary parts, if there are any, stand `half` further.
template <bool kComplex, bool kConjugate>
void MultiplyAdd(int64_t n, int64_t half, const float* __restrict a, const float* __restrict x,
                 const float* __restrict b, float* __restrict to) {
  if constexpr (!kComplex) {
    for (int64_t i = 0; i < n; ++i) to[i] = a[i] * x[i] + (b ? b[i] : 0.0f);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      const float real = a[i], imaginary = kConjugate ? -a[i + half] : a[i + half];
      const float x_real = x[i], x_imaginary = x[i + half];
      to[i] = real * x_real - imaginary * x_imaginary + (b ? b[i] : 0.0f);
      to[i + half] = real * x_imaginary + imaginary * x_real + (b ? b[i + half] : 0.0f);
    }
  }
}

struct Shape {
  int64_t batch, time, features;
  bool reverse;

  int64_t size() const { return batch * time * features; }
  // Where the s-th step of a walk through a row begins.
  int64_t at(int64_t row, int64_t s) const {
    return (row * time + (reverse ? time - 1 - s : s)) * features;
  }
};

template <bool kComplex>
struct Forward {
  Shape shape;
  const float *a, *b, *initial;
  float* h;

  void Run(int64_t row, int64_t first, int64_t last) const {
    const int64_t half = shape.features / 2;
    const float* before = initial + row * shape.features + first;
    for (int64_t s = 0; s < shape.time; ++s) {
      const int64_t at = shape.at(row, s) + first;
      MultiplyAdd<kComplex, false>(last - first, half, a + at, before, b + at, h + at);
      before = h + at;
    }
  }
};

template <bool kComplex>
struct Backward {
  Shape shape;
  const float *a, *h, *initial, *d_h;
  float *d_a, *d_b, *d_initial;

  void Run(int64_t row, int64_t first, int64_t last) const {
    const int64_t half = shape.features / 2, n = last - first;
    const int64_t state = row * shape.features + first;
    for (int64_t s = shape.time - 1; s >= 0; --s) {
      const int64_t at = shape.at(row, s) + first;
      if (s == shape.time - 1) {
        std::copy_n(d_h + at, n, d_b + at);
        if (kComplex) std::copy_n(d_h + at + half, n, d_b + at + half);
      } else {
        const int64_t after = shape.at(row, s + 1) + first;
        MultiplyAdd<kComplex, true>(n, half, a + after, d_b + after, d_h + at, d_b + at);
      }
      const float* before = s ? h + shape.at(row, s - 1) + first : initial + state;
      MultiplyAdd<kComplex, true>(n, half, before, d_b + at, nullptr, d_a + at);
    }
    const int64_t at = shape.at(row, 0) + first;
    MultiplyAdd<kComplex, true>(n, half, a + at, d_b + at, nullptr, d_initial + state);
  }
};

// All rows, in about as many parts as the call says.
template <typename Walk>
void RunAll(Call& call, const Walk& walk, bool is_complex) {
  const int64_t rows = walk.shape.batch;
  const int64_t units = is_complex ? walk.shape.features / 2 : walk.shape.features;
  const int64_t most = std::max<int64_t>(1, units / kFewest);
  const int64_t blocks = std::clamp<int64_t>(rows ? call.parts / rows : 1, 1, most);
  const int64_t all = rows * blocks, count = std::min(call.parts, all);
  call.InParallel(count, [&](int64_t n) {
    for (int64_t each = n * all / count; each < (n + 1) * all / count; ++each) {
      const int64_t block = each % blocks;
      walk.Run(each / blocks, block * units / blocks, (block + 1) * units / blocks);
    }
  });
}

template <template <bool> class Walk, typename Fill>
void Dispatch(Call& call, const Fill& fill) {
  const bool is_complex = call.variant[0];
  const int64_t* sizes = call.Sizes(0);
  const Shape shape{sizes[0], sizes[1], sizes[2], call.reverse[0] != 0};
  if (is_complex) {
    Walk<true> walk{shape};
    fill(walk);
    return RunAll(call, walk, true);
  }
  Walk<false> walk{shape};
  fill(walk);
  RunAll(call, walk, false);
}

}  // namespace

void LinearForward(Call& call) {
  Dispatch<Forward>(call, [&](auto& walk) {
    walk.a = call.Argument();
    walk.b = call.Argument();
    walk.initial = call.Argument();
    walk.h = call.Result();
  });
}

void LinearBackward(Call& call) {
  Dispatch<Backward>(call, [&](auto& walk) {
    walk.a = call.Argument();
    walk.h = call.Argument();
    walk.initial = call.Argument();
    walk.d_h = call.Argument();
    walk.d_a = call.Result();
    walk.d_b = call.Result();
    walk.d_initial = call.Result();
  });
}

}  // namespace rnn_jax

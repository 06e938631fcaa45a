#include "layer.h"

namespace rnn_jax {
namespace {

// Steps times rows of a chunk: more where weights outgrow a core's cache, so that their gradient is
// added to less often.
constexpr int64_t kChunkRows = 128, kLargeChunkRows = 256, kLargeWeights = 1 << 18;

}  // namespace

Layer::Layer(Call& call, size_t n, int states) : states(states) {
  const int64_t *inputs_sizes = call.Sizes(0), *recurrent_sizes = call.Sizes(2);
  batch = inputs_sizes[0];
  time = inputs_sizes[1];
  in = inputs_sizes[2];
  hidden = recurrent_sizes[0];
  columns = recurrent_sizes[1];
  reverse = call.reverse[n];
  variant = call.variant[n];
  inputs = call.Argument();
  weights = call.Argument();
  recurrent_weights = call.Argument();
  bias = call.Argument();
  recurrent_bias = call.Argument();
  keep = call.Argument();
  for (int state = 0; state < states; ++state) initial[state] = call.Argument();
  for (int state = 0; state < states; ++state) fresh[state] = call.Argument();
  flags = call.Argument<uint8_t>();
}

int64_t Layer::ChunkSteps(int64_t rows) const {
  const bool large = std::max(in, hidden) * columns > kLargeWeights;
  const int64_t size = large ? kLargeChunkRows : kChunkRows;
  return std::clamp<int64_t>(size / std::max<int64_t>(rows, 1), 1, time);
}

Gradients::Gradients(Call& call, const Layer& layer) {
  outputs = call.Argument();
  const float* given[kMostStates];
  for (int state = 0; state < layer.states; ++state) given[state] = call.Argument();
  inputs = call.Result();
  weights = call.Result();
  recurrent_weights = call.Result();
  bias = call.Result();
  recurrent_bias = call.Result();
  for (int state = 0; state < layer.states; ++state) states[state] = call.Result();
  for (int state = 0; state < layer.states; ++state) fresh[state] = call.Result();
  const int64_t size = layer.batch * layer.hidden;
  for (int state = 0; state < layer.states; ++state) {
    std::copy_n(given[state], size, states[state]);
    if (fresh[state]) std::fill_n(fresh[state], size, 0.0f);
  }
}

void IntoHidden(const Layer& layer, const Gradients& d, int64_t s, int64_t first, int64_t count,
                const Rows& products) {
  const int64_t hidden = layer.hidden;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t row = first + n;
    const bool valid = layer.valid(row, s), restart = layer.restart(row, s);
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit, state = row * hidden + unit;
      Vec d_met = Load(d.states[0] + state, lanes), product = Load(products[n] + unit, lanes);
      if (layer.keep) product *= Load(layer.keep + state, lanes);
      if (valid) d_met += product;
      if (restart) {
        AddTo(d.fresh[0] + state, d_met, lanes);
        d_met = Vec{};
      }
      Store(d.states[0] + state, d_met, lanes);
    }
  }
}

}  // namespace rnn_jax

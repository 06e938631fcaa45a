// A call from XLA, whatever it computes: its arrays in turn, and its threads. XLA's own header is
// left to calls.cc, since it takes a compiler longer than all that is computed here.

#ifndef RNN_JAX_KERNELS_CPP_CALLS_H_
#define RNN_JAX_KERNELS_CPP_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace rnn_jax {

struct Array {
  void* values;  // null where there are no entries
  const int64_t* sizes;
};

class Call {
 public:
  std::vector<Array> arguments, results;
  std::vector<int64_t> reverse, variant;  // of each direction
  int64_t parts;
  std::function<void(std::function<void()>)> schedule;  // on another thread, some time

  // Arguments and results in turn; those without an entry are null.
  template <typename T = float>
  const T* Argument() {
    return static_cast<const T*>(arguments[next_argument_++].values);
  }
  float* Result() { return static_cast<float*>(results[next_result_++].values); }
  // The shape of an argument still to come.
  const int64_t* Sizes(size_t ahead) const { return arguments[next_argument_ + ahead].sizes; }

  // Runs part(0) to part(count - 1): the caller takes one after the other, and so do the threads
  // that come to help. Parts may throw only for want of memory; then so does this.
  void InParallel(int64_t count, const std::function<void(int64_t)>& part);

 private:
  size_t next_argument_ = 0, next_result_ = 0;
};

}  // namespace rnn_jax

#endif  // RNN_JAX_KERNELS_CPP_CALLS_H_

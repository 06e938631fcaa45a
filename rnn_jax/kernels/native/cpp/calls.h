// What a call from XLA needs whatever it computes: its arrays in turn, and its threads.

#ifndef RNN_JAX_KERNELS_CPP_CALLS_H_
#define RNN_JAX_KERNELS_CPP_CALLS_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>

#include "xla/ffi/api/ffi.h"

namespace rnn_jax {

namespace ffi = xla::ffi;

// Runs part(0) to part(count - 1): the caller takes one after the other, and so do the pool's
// threads that come to help. Parts may throw only for want of memory.
template <typename Part>
ffi::Error Parallel(ffi::ThreadPool& pool, int64_t count, const Part& part) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  const auto state = std::make_shared<State>();
  // A helper that comes late finds no part left, and does not touch `part`.
  const auto help = [state, count, &part] {
    for (int64_t n = state->next++; n < count; n = state->next++) {
      try {
        part(n);
      } catch (const std::bad_alloc&) {
        state->failed = true;
      }
      if (++state->done == count) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->all_done.notify_one();
      }
    }
  };
  for (int64_t n = 1; n < count; ++n) pool.Schedule([help] { help(); });
  help();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == count; });
  if (!state->failed) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "kernel 'native': out of memory");
}

// Arguments and results in turn; those without an entry are null.
class Arguments {
 public:
  explicit Arguments(ffi::RemainingArgs buffers) : buffers_(buffers) {}
  template <typename T = float>
  const T* Next() {
    const ffi::AnyBuffer buffer = *buffers_.get<ffi::AnyBuffer>(next_++);
    return buffer.element_count() ? reinterpret_cast<const T*>(buffer.untyped_data()) : nullptr;
  }
  ffi::AnyBuffer::Dimensions Dimensions(size_t ahead) const {
    return buffers_.get<ffi::AnyBuffer>(next_ + ahead)->dimensions();
  }

 private:
  ffi::RemainingArgs buffers_;
  size_t next_ = 0;
};

class Results {
 public:
  explicit Results(ffi::RemainingRets buffers) : buffers_(buffers) {}
  float* Next() {
    ffi::Result<ffi::AnyBuffer> buffer = *buffers_.get<ffi::AnyBuffer>(next_++);
    return buffer->element_count() ? reinterpret_cast<float*>(buffer->untyped_data()) : nullptr;
  }

 private:
  ffi::RemainingRets buffers_;
  size_t next_ = 0;
};

}  // namespace rnn_jax

#endif  // RNN_JAX_KERNELS_CPP_CALLS_H_

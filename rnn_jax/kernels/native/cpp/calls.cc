// The calls that XLA knows, and what it hands to them.

#include "calls.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>

#include "xla/ffi/api/ffi.h"

namespace rnn_jax {

namespace ffi = xla::ffi;

void Call::InParallel(int64_t count, const std::function<void(int64_t)>& part) {
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
  for (int64_t n = 1; n < count; ++n) schedule(help);
  help();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == count; });
  if (state->failed) throw std::bad_alloc();
}

namespace {

using Integers = ffi::Span<const int64_t>;

// An array with leading axes over the members of a vmapped call. An array that all members share
// has size 1 there.
struct Members {
  ffi::AnyBuffer buffer;
  size_t leading;

  // Of a member, counted over `sizes`, the leading axes of the whole call.
  Array Of(int64_t member, const std::vector<int64_t>& sizes) const {
    const auto dimensions = buffer.dimensions();
    if (!buffer.element_count()) return {nullptr, dimensions.begin() + leading};
    int64_t place = 0, stride = 1;  // in arrays of one member
    for (size_t axis = leading; axis-- > 0; member /= sizes[axis]) {
      if (dimensions[axis] > 1) place += member % sizes[axis] * stride;
      stride *= dimensions[axis];
    }
    char* const values = static_cast<char*>(buffer.untyped_data());
    return {values + place * (buffer.size_bytes() / stride), dimensions.begin() + leading};
  }
};

ffi::Error Run(void (*compute)(Call&), ffi::ThreadPool& pool, ffi::RemainingArgs arguments,
               ffi::RemainingRets results, Integers reverse, Integers variant, int64_t parts,
               int64_t rank) {
  try {
    Call whole;
    whole.reverse.assign(reverse.begin(), reverse.end());
    whole.variant.assign(variant.begin(), variant.end());
    whole.parts = parts;
    whole.schedule = [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); };
    const size_t leading = arguments.get<ffi::AnyBuffer>(0)->dimensions().size() - rank;
    std::vector<Members> given, made;
    for (size_t n = 0; n < arguments.size(); ++n) {
      given.push_back({*arguments.get<ffi::AnyBuffer>(n), leading});
    }
    for (size_t n = 0; n < results.size(); ++n) {
      made.push_back({**results.get<ffi::AnyBuffer>(n), leading});
    }
    const auto dimensions = made[0].buffer.dimensions();
    const std::vector<int64_t> sizes(dimensions.begin(), dimensions.begin() + leading);
    int64_t members = 1;
    for (const int64_t size : sizes) members *= size;
    whole.InParallel(members, [&](int64_t member) {
      Call call = whole;
      for (const Members& each : given) call.arguments.push_back(each.Of(member, sizes));
      for (const Members& each : made) call.results.push_back(each.Of(member, sizes));
      compute(call);
    });
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "kernel 'native': out of memory");
  }
  return ffi::Error::Success();
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<Integers>("reverse")
      .Attr<Integers>("variant")
      .Attr<int64_t>("parts")
      .Attr<int64_t>("rank");
}

// A handler's type is its function's: with pointers the compiler makes one for all of them.
using Handled = ffi::Error (*)(ffi::ThreadPool, ffi::RemainingArgs, ffi::RemainingRets, Integers,
                               Integers, int64_t, int64_t);

template <void (*compute)(Call&)>
ffi::Error Handle(ffi::ThreadPool pool, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                  Integers reverse, Integers variant, int64_t parts, int64_t rank) {
  return Run(compute, pool, arguments, results, reverse, variant, parts, rank);
}

}  // namespace
}  // namespace rnn_jax

// A kind of cells, RNN_JAX_KIND, has two calls. Each computes what the function of its name does,
// in the kind's file.
#define RNN_JAX_CALL(name)                      \
  namespace rnn_jax {                           \
  void name(Call&);                             \
  static Handled handled_##name = Handle<name>; \
  }                                             \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, rnn_jax::handled_##name, rnn_jax::Binding());
#define RNN_JAX_CALLS_OF(kind) RNN_JAX_CALL(kind##Forward) RNN_JAX_CALL(kind##Backward)
#define RNN_JAX_CALLS(kind) RNN_JAX_CALLS_OF(kind)

RNN_JAX_CALLS(RNN_JAX_KIND)

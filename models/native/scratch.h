// Memory of the kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace funnelcast {

// Memory for the time of a call; a failure is thrown, as `new` does.
template <typename Number>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : numbers_(static_cast<Number*>(
            std::aligned_alloc(64, (std::max<int64_t>(count, 1) * sizeof(Number) + 63) / 64 * 64))) {
    if (!numbers_) throw std::bad_alloc();
  }
  Number* get() const { return numbers_.get(); }
  operator Number*() const { return numbers_.get(); }

 private:
  struct Free {
    void operator()(Number* numbers) const { std::free(numbers); }
  };
  std::unique_ptr<Number, Free> numbers_;
};

}  // namespace funnelcast

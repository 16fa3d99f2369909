// Gradients of a batch on their way to the rows of the table, and the steps that rows take.
#include "products.h"

#include <cmath>
#include <type_traits>
#include <utility>

namespace funnelcast {
namespace {

constexpr int64_t AHEAD = 16;  // positions whose memory is asked for before it is their turn

template <typename Number>
void fetch(const Number* from, int64_t count) {
  const char* bytes = reinterpret_cast<const char*>(from);
  for (int64_t at = 0; at < count * static_cast<int64_t>(sizeof(Number)); at += 64) _mm_prefetch(bytes + at, _MM_HINT_T0);
}

// Numbers in ascending order by all bits from 32 on; of equal ones the order is kept. By digits of 11 bits.
void sort_high(uint64_t* keys, int64_t count, uint64_t most) {
  constexpr int DIGIT = 11;
  Scratch<uint64_t> other(count);
  uint64_t *from = keys, *to = other;
  for (int shift = 32; shift == 32 || most >> (shift - 32); shift += DIGIT) {
    int64_t starts[1 << DIGIT] = {};
    const auto digit = [shift](uint64_t key) { return key >> shift & ((1 << DIGIT) - 1); };
    for (int64_t i = 0; i < count; ++i) ++starts[digit(from[i])];
    int64_t before = 0;
    for (int64_t& start : starts) before += std::exchange(start, before);
    for (int64_t i = 0; i < count; ++i) to[starts[digit(from[i])]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys) std::memcpy(keys, from, count * sizeof(uint64_t));
}

__m512 read(const float* from, __mmask16 there) { return _mm512_maskz_loadu_ps(there, from); }
__m512 read(const bf16* from, __mmask16 there) { return widened(_mm256_maskz_loadu_epi16(there, from)); }

// What a batch has for the table: a gradient for every position, of float32 or bfloat16.
template <typename Number>
struct Gradients {
  int64_t count, width;
  int64_t table, still;  // its rows, of which one never moves
  const int64_t* rows;   // of the table, by position
  const Number* at;      // (count, width)
};

// `step(row, gradient)` for every row, with the sum of its gradients, added up in the order of the batch;
// `fetch_row(row)` some positions ahead of it. False if a row is none of the table's; then nothing was done.
template <typename Number, typename FetchRow, typename Step>
bool each_row(const Gradients<Number>& all, const FetchRow& fetch_row, const Step& step) {
  Scratch<uint64_t> keys(all.count);  // row and position
  uint64_t most = 0;
  for (int64_t i = 0; i < all.count; ++i) {
    const uint64_t row = static_cast<uint64_t>(all.rows[i]);
    most = std::max(most, row);
    keys[i] = row << 32 | static_cast<uint64_t>(i);
  }
  if (all.count && most >= static_cast<uint64_t>(all.table)) return false;
  sort_high(keys, all.count, most);
  const auto row_of = [&](int64_t i) { return static_cast<int64_t>(keys[i] >> 32); };
  const auto grad_of = [&](int64_t i) { return all.at + static_cast<int64_t>(keys[i] & 0xffffffff) * all.width; };
  Scratch<float> sum(to_lanes(all.width));
  for (int64_t i = 0, next; i < all.count; i = next) {
    const int64_t row = row_of(i);
    for (next = i + 1; next < all.count && row_of(next) == row;) ++next;
    for (int64_t later = i + AHEAD; later < std::min(next + AHEAD, all.count); ++later) {
      fetch(grad_of(later), all.width);
      if (row_of(later) != row_of(later - 1)) fetch_row(row_of(later));
    }
    if (row == all.still) continue;
    for (int64_t c = 0; c < all.width; c += LANES) {
      const __mmask16 there = first_of_16(all.width - c);
      __m512 found = read(grad_of(i) + c, there);
      for (int64_t same = i + 1; same < next; ++same) found = _mm512_add_ps(found, read(grad_of(same) + c, there));
      _mm512_store_ps(sum + c, found);
    }
    step(row, sum.get());
  }
  return true;
}

template <typename Number>
bool adagrad(const Gradients<Number>& all, float rate, float epsilon, float* sums, float* weight) {
  const int64_t width = all.width;
  const auto fetch_row = [&](int64_t row) {
    fetch(weight + row * width, width);
    fetch(sums + row, 1);
  };
  return each_row(all, fetch_row, [&](int64_t row, const float* grad) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += LANES) {
      const __m512 one = _mm512_load_ps(grad + c);
      squares = _mm512_fmadd_ps(one, one, squares);
    }
    sums[row] += _mm512_reduce_add_ps(squares) / static_cast<float>(width);
    const __m512 step = _mm512_set1_ps(rate / (std::sqrt(sums[row]) + epsilon));
    for (int64_t c = 0; c < width; c += LANES) {
      const __mmask16 there = first_of_16(width - c);
      float* at = weight + row * width + c;
      const __m512 known = _mm512_maskz_loadu_ps(there, at);
      _mm512_mask_storeu_ps(at, there, _mm512_fnmadd_ps(step, _mm512_load_ps(grad + c), known));
    }
  });
}

template <typename Number>
bool adam(const Gradients<Number>& all, double rate, double decay, double decay_square, double epsilon, int32_t* steps,
          float* moments, float* squares, float* weight) {
  const int64_t width = all.width;
  const auto fetch_row = [&](int64_t row) {
    for (float* of_row : {moments, squares, weight}) fetch(of_row + row * width, width);
    fetch(steps + row, 1);
  };
  const auto set = [](double number) { return _mm512_set1_ps(static_cast<float>(number)); };
  const float log_decay = static_cast<float>(std::log(decay)), log_square = static_cast<float>(std::log(decay_square));
  return each_row(all, fetch_row, [&](int64_t row, const float* grad) {
    // 1 - beta ** t, by expm1 because beta ** t is near 1 when a row is new
    const float taken = static_cast<float>(++steps[row]), root = std::sqrt(-std::expm1(taken * log_square));
    const __m512 step = set(rate * root / -std::expm1(taken * log_decay)), least = set(epsilon * root);
    for (int64_t c = 0; c < width; c += LANES) {
      const __mmask16 there = first_of_16(width - c);
      const int64_t at = row * width + c;
      const auto known = [&](const float* of_row) { return _mm512_maskz_loadu_ps(there, of_row + at); };
      const __m512 one = _mm512_load_ps(grad + c), moment = known(moments);
      const __m512 moved = _mm512_fmadd_ps(set(1 - decay), _mm512_sub_ps(one, moment), moment);
      const __m512 square = _mm512_fmadd_ps(_mm512_mul_ps(set(1 - decay_square), one), one,
                                            _mm512_mul_ps(set(decay_square), known(squares)));
      const __m512 change = _mm512_div_ps(_mm512_mul_ps(moved, step), _mm512_add_ps(_mm512_sqrt_ps(square), least));
      _mm512_mask_storeu_ps(moments + at, there, moved);
      _mm512_mask_storeu_ps(squares + at, there, square);
      _mm512_mask_storeu_ps(weight + at, there, _mm512_sub_ps(known(weight), change));
    }
  });
}

}  // namespace
}  // namespace funnelcast

extern "C" {

// `rows` (count) and `grads` (count, width) of the batch, bfloat16 if `narrow`; the other arrays are those of the
// optimisers in Python, for `table` rows, fewer than 2^32, as is `count`. 2: a row is none of them.
int row_wise_adagrad(int64_t count, int64_t width, int64_t table, int64_t still, int64_t narrow, double rate,
                     double epsilon, const int64_t* rows, const void* grads, float* sums, float* weight) try {
  const auto step = [&](const auto* at) {
    return funnelcast::adagrad<std::decay_t<decltype(*at)>>({count, width, table, still, rows, at},
                                                            static_cast<float>(rate), static_cast<float>(epsilon),
                                                            sums, weight);
  };
  const bool done = narrow ? step(static_cast<const uint16_t*>(grads)) : step(static_cast<const float*>(grads));
  return done ? 0 : 2;
} catch (const std::bad_alloc&) {
  return 1;
}

int lazy_adam(int64_t count, int64_t width, int64_t table, int64_t still, int64_t narrow, double rate, double decay,
              double decay_square, double epsilon, const int64_t* rows, const void* grads, int32_t* steps,
              float* moments, float* squares, float* weight) try {
  const auto step = [&](const auto* at) {
    return funnelcast::adam<std::decay_t<decltype(*at)>>({count, width, table, still, rows, at}, rate, decay,
                                                         decay_square, epsilon, steps, moments, squares, weight);
  };
  const bool done = narrow ? step(static_cast<const uint16_t*>(grads)) : step(static_cast<const float*>(grads));
  return done ? 0 : 2;
} catch (const std::bad_alloc&) {
  return 1;
}

// Rows of the table (`table`, width), rounded to bfloat16. 2: a row is none of them.
int gather(int64_t count, int64_t width, int64_t table, const int64_t* rows, const float* weight, uint16_t* to) {
  using namespace funnelcast;
  for (int64_t i = 0; i < count; ++i)
    if (rows[i] < 0 || rows[i] >= table) return 2;
  for (int64_t i = 0; i < count; ++i) {
    if (i + AHEAD < count) fetch(weight + rows[i + AHEAD] * width, width);
    for (int64_t c = 0; c < width; c += LANES) {
      const __mmask16 there = first_of_16(width - c);
      _mm256_mask_storeu_epi16(to + i * width + c, there, rounded(read(weight + rows[i] * width + c, there)));
    }
  }
  return 0;
}

// bfloat16 as float32, of the first columns of every row; `row` is from one row to the next of what is read.
int widen(int64_t rows, int64_t columns, int64_t row, const uint16_t* from, float* to) {
  using namespace funnelcast;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; c += LANES) {
      const __mmask16 there = first_of_16(columns - c);
      _mm512_mask_storeu_ps(to + r * columns + c, there, widened(_mm256_maskz_loadu_epi16(there, from + r * row + c)));
    }
  return 0;
}

}  // extern "C"

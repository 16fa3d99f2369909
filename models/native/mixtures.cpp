// Weighted sums of experts by several gates, forward and backward, in one pass over each.
//
// Gate g selects `counts[g]` of the experts, whose places follow each other in `places`; its weights are
// (E, rows) with its own E. 32 numbers of bfloat16 are two registers of float32, the even and the odd ones.
#include "products.h"

#include <vector>

namespace funnelcast {
namespace {

constexpr int64_t BLOCK = 64;  // rows whose experts stay in the first caches for all gates
constexpr int64_t MOST = 16;   // terms of which one pass takes care; more are added up by several

struct Pair {
  __m512 even, odd;
};

Pair read(const bf16* from, __mmask32 there) {
  const __m512i found = _mm512_maskz_loadu_epi16(there, from);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(found, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(found, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
}

void write(bf16* to, __mmask32 there, const Pair& wide) {
  _mm512_mask_storeu_epi16(to, there, interleaved(rounded(wide.even), rounded(wide.odd)));
}

// One term of a sum over terms, row by row: `weight[r] * from[r * width ...]`.
struct Term {
  const float* weight;
  const bf16* from;
  float* of_weight;  // where the gradient of the weight goes
};

// Sums over terms of one row, written to `to`, or added to what is there; N is their count, 0 if it is any other.
// Backward, `with` is what every term's vector is multiplied with for the gradient of its weight.
template <int N>
void sum_row(const Term* terms, int64_t count, int64_t r, int64_t width, bool add, const bf16* with, bf16* to) {
  const int64_t n = N ? N : count;
  __m512 weights[N ? N : MOST], dots[N ? N : MOST];
  for (int64_t t = 0; t < n; ++t) {
    weights[t] = _mm512_set1_ps(terms[t].weight[r]);
    dots[t] = _mm512_setzero_ps();
  }
  for (int64_t c = 0; c < width; c += 2 * LANES) {
    const __mmask32 there = first_of_32(width - c);
    const int64_t at = r * width + c;
    Pair sum = add ? read(to + at, there) : Pair{_mm512_setzero_ps(), _mm512_setzero_ps()};
    const Pair other = with ? read(with + at, there) : sum;
    for (int64_t t = 0; t < n; ++t) {
      const Pair one = read(terms[t].from + at, there);
      sum.even = _mm512_fmadd_ps(weights[t], one.even, sum.even);
      sum.odd = _mm512_fmadd_ps(weights[t], one.odd, sum.odd);
      if (with) dots[t] = _mm512_fmadd_ps(one.even, other.even, _mm512_fmadd_ps(one.odd, other.odd, dots[t]));
    }
    write(to + at, there, sum);
  }
  for (int64_t t = 0; with && t < n; ++t) terms[t].of_weight[r] = _mm512_reduce_add_ps(dots[t]);
}

// Where a sum goes, and its terms.
struct Sum {
  std::vector<Term> terms;
  const bf16* with;
  bf16* to;
};

void sum_block(const Sum& asked, int64_t start, int64_t stop, int64_t width) {
  const auto& [terms, with, to] = asked;
  const int64_t all = static_cast<int64_t>(terms.size());
  for (int64_t first = 0; first < std::max<int64_t>(all, 1); first += MOST) {
    const Term* some = terms.data() + first;
    const int64_t count = std::min(MOST, all - first);
    const auto sum = count == 1   ? sum_row<1>
                     : count == 2 ? sum_row<2>
                     : count == 3 ? sum_row<3>
                     : count == 4 ? sum_row<4>
                                  : sum_row<0>;
    for (int64_t r = start; r < stop; ++r) sum(some, count, r, width, first > 0, with, to);
  }
}

void sum_all(const std::vector<Sum>& asked, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; r += BLOCK)
    for (const Sum& one : asked) sum_block(one, r, std::min(r + BLOCK, rows), width);
}

}  // namespace
}  // namespace funnelcast

extern "C" {

// `experts` and `mixed` are (rows, width).
int mixtures_forward(int64_t rows, int64_t width, int64_t gates, const int64_t* counts, const int64_t* places,
                     const float* const* weights, const uint16_t* const* experts, uint16_t* const* mixed) try {
  std::vector<funnelcast::Sum> asked(gates);
  for (int64_t g = 0; g < gates; ++g) {
    asked[g] = {{}, nullptr, mixed[g]};
    for (int64_t e = 0; e < counts[g]; ++e)
      asked[g].terms.push_back({weights[g] + e * rows, experts[*places++], nullptr});
  }
  funnelcast::sum_all(asked, rows, width);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// `grads` by gate and `of_experts` (rows, width); an expert that no gate selects gets zeros.
int mixtures_backward(int64_t rows, int64_t width, int64_t gates, int64_t num_experts, const int64_t* counts,
                      const int64_t* places, const float* const* weights, const uint16_t* const* experts,
                      const uint16_t* const* grads, float* const* of_weights, uint16_t* const* of_experts) try {
  std::vector<funnelcast::Sum> asked(num_experts);
  for (int64_t e = 0; e < num_experts; ++e) asked[e] = {{}, experts[e], of_experts[e]};
  for (int64_t g = 0; g < gates; ++g)
    for (int64_t e = 0; e < counts[g]; ++e)
      asked[*places++].terms.push_back({weights[g] + e * rows, grads[g], of_weights[g] + e * rows});
  funnelcast::sum_all(asked, rows, width);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // extern "C"

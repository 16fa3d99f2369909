// Gates that read the same rows: weights over experts, softmax(W x) without bias, forward and backward.
//
// Gate g has `sizes[g]` experts and the weight (E, width); together they have A logits, which are one product.
#include "products.h"

#include <cmath>

namespace funnelcast {
namespace {

constexpr int64_t BLOCK = 43 * TILE;  // rows at a time

struct Gates {
  int64_t rows, width, count;
  const int64_t* sizes;
  const float* const* weights;
  const bf16* x;

  int64_t logits() const {
    int64_t all = 0;
    for (int64_t g = 0; g < count; ++g) all += sizes[g];
    return all;
  }
  // The weights below each other, (A, width).
  Scratch<float> together() const {
    Scratch<float> all(logits() * width);
    float* to = all;
    for (int64_t g = 0; g < count; to += sizes[g++] * width)
      std::memcpy(to, weights[g], sizes[g] * width * sizeof(float));
    return all;
  }
};

void forward(const Gates& gates, float* const* shares) {
  const int64_t all = gates.logits(), apart = to_lanes(all), width = gates.width;
  Scratch<word> right(packed_size(width, all));
  pack_transposed(gates.together(), width, all, width, right);
  Scratch<float> found(BLOCK * apart);
  Scratch<bf16> even(BLOCK * (width + 1));
  for (int64_t r = 0; r < gates.rows; r += BLOCK) {
    const int64_t rows = std::min(BLOCK, gates.rows - r);
    const Wide write{found, apart, apart, false};
    product(as_left(gates.x + r * width, rows, width, even), rows, halves(width), right, all, write, write);
    for (int64_t row = 0; row < rows; ++row) {
      const float* logit = found + row * apart;
      for (int64_t g = 0; g < gates.count; logit += gates.sizes[g++]) {
        const int64_t size = gates.sizes[g];
        const float most = *std::max_element(logit, logit + size);
        float* share = shares[g] + r + row;
        float sum = 0;
        for (int64_t e = 0; e < size; ++e) sum += share[e * gates.rows] = std::exp(logit[e] - most);
        for (int64_t e = 0; e < size; ++e) share[e * gates.rows] /= sum;
      }
    }
  }
}

void backward(const Gates& gates, const float* const* shares, const float* const* grads, float* const* of_weights,
              bf16* of_x) {
  const int64_t all = gates.logits(), width = gates.width, even = 2 * halves(all), most = std::min(BLOCK, gates.rows);
  Scratch<word> down(packed_size(all, width)), left(halves(most) * to_lanes(all)), right(packed_size(most, width));
  pack(gates.together(), width, all, width, down);
  Scratch<bf16> of_logits(most * even);
  Scratch<float> of_all(all * width);
  std::memset(of_all, 0, all * width * sizeof(float));
  for (int64_t r = 0; r < gates.rows; r += BLOCK) {
    const int64_t rows = std::min(BLOCK, gates.rows - r);
    std::memset(of_logits, 0, rows * even * sizeof(bf16));
    for (int64_t row = 0; row < rows; ++row) {
      bf16* to = of_logits + row * even;
      for (int64_t g = 0; g < gates.count; to += gates.sizes[g++]) {
        const float *share = shares[g] + r + row, *grad = grads[g] + r + row;
        float mean = 0;
        for (int64_t e = 0; e < gates.sizes[g] * gates.rows; e += gates.rows) mean += share[e] * grad[e];
        for (int64_t e = 0; e < gates.sizes[g]; ++e)
          to[e] = rounded(share[e * gates.rows] * (grad[e * gates.rows] - mean));
      }
    }
    if (of_x)
      product({reinterpret_cast<const word*>(of_logits.get()), halves(all), 1}, rows, halves(all), down, width, nothing,
              Narrow{of_x + r * width, width, width});
    interleave(of_logits, even, rows, all, to_lanes(all), left);
    pack(gates.x + r * width, width, rows, width, right);
    const Wide into{of_all, width, width, true};
    product({left, 1, to_lanes(all)}, all, halves(rows), right, width, into, into);
  }
  const float* from = of_all;
  for (int64_t g = 0; g < gates.count; from += gates.sizes[g++] * width)
    std::memcpy(of_weights[g], from, gates.sizes[g] * width * sizeof(float));
}

}  // namespace
}  // namespace funnelcast

extern "C" {

// `x` is (rows, width); `shares` by gate (E, rows).
int gates_forward(int64_t rows, int64_t width, int64_t count, const int64_t* sizes, const float* const* weights,
                  const uint16_t* x, float* const* shares) try {
  funnelcast::forward({rows, width, count, sizes, weights, x}, shares);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// `of_x` is null where nobody asks.
int gates_backward(int64_t rows, int64_t width, int64_t count, const int64_t* sizes, const float* const* weights,
                   const uint16_t* x, const float* const* shares, const float* const* grads, float* const* of_weights,
                   uint16_t* of_x) try {
  funnelcast::backward({rows, width, count, sizes, weights, x}, shares, grads, of_weights, of_x);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // extern "C"

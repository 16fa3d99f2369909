// ReLU networks of equal shape, forward and backward, block of rows by block of rows.
//
// Group g of G reads input g; N networks of a group lie side by side in the first layer's weight and one
// behind the other in the later ones, as `models.blocks.Networks` holds them. All that a block of rows needs
// stays in the second cache while it goes through the layers.
#include "lit.h"

#include <vector>

namespace funnelcast {
namespace {

constexpr int64_t BLOCK = 43 * TILE;  // rows that go through all layers at a time

// Words from one row to the next, so that as many rows as can be lie in the first cache: not a power of two.
int64_t spread(int64_t width) { return to_lanes(width) | LANES; }

struct Layer {
  const float *weight, *bias;
  int64_t row;        // from one row of the weight to the next
  int64_t in, out;    // widths
};

struct Shape {
  int64_t rows, groups, per_group, depth;
  const int64_t* widths;  // of the input and of every layer's output
  const float* const* weights;
  const float* const* biases;

  // Where the weight or bias of a network begins in that of all: (G, in, N * out), then (S, in, out).
  int64_t start(int64_t network, int64_t layer, int64_t in) const {
    const int64_t out = widths[layer + 1], group = network / per_group, place = network % per_group;
    return layer ? network * in * out : group * in * per_group * out + place * out;
  }
  int64_t row(int64_t layer) const { return layer ? widths[layer + 1] : per_group * widths[layer + 1]; }
  Layer at(int64_t network, int64_t layer) const {
    const int64_t in = widths[layer];
    return {weights[layer] + start(network, layer, in), biases[layer] + start(network, layer, 1), row(layer), in,
            widths[layer + 1]};
  }
  int64_t networks() const { return groups * per_group; }
  int64_t widest() const { return *std::max_element(widths, widths + depth + 1); }
};

// What networks read, row by row.
struct Rows {
  const bf16* const* inputs;  // of every group (rows, width)
  bf16* even;                 // for a block of rows

  Left operator()(const Shape& shape, int64_t n, int64_t r, int64_t rows) const {
    const int64_t width = shape.widths[0];
    return as_left(inputs[n / shape.per_group] + r * width, rows, width, even);
  }
};

// The ReLU of what a row's user and its item have in one table, summed and rounded: what pairs hand to the second
// layer of a network.
struct Pairs {
  const bf16* table;
  const int64_t* places;  // (rows, 2)
  bf16* even;             // for a block of rows

  Left operator()(const Shape& shape, int64_t, int64_t r, int64_t rows) const {
    const int64_t width = shape.widths[0], row = 2 * halves(width);
    for (int64_t i = 0; i < rows; ++i) {
      const bf16 *user = table + places[2 * (r + i)] * width, *item = table + places[2 * (r + i) + 1] * width;
      for (int64_t c = 0; c < width; c += LANES) {
        const __mmask16 there = first_of_16(width - c);
        const auto read = [&](const bf16* at) { return widened(_mm256_maskz_loadu_epi16(there, at + c)); };
        const __m512 lit = _mm512_max_ps(_mm512_setzero_ps(), _mm512_add_ps(read(user), read(item)));
        _mm256_mask_storeu_epi16(even + i * row + c, first_of_16(row - c), rounded(lit));
      }
    }
    return {reinterpret_cast<const word*>(even), halves(width), 1};
  }
};

template <typename Read>
void forward(const Shape& shape, bool linear, const Read& input, bf16* even, bf16* const* outputs) {
  const int64_t networks = shape.networks(), depth = shape.depth;
  int64_t size = 0, by_units = 0;
  for (int64_t l = 0; l < depth; ++l) {
    size += packed_size(shape.widths[l], shape.widths[l + 1]);
    by_units += units_size(halves(shape.widths[l]), shape.widths[l + 1]);
  }
  Scratch<word> packed(size);
  Scratch<bf16> units(by_units), one(BLOCK * shape.widest()), other(BLOCK * shape.widest());
  Lit lit(std::min(BLOCK, shape.rows), 2 * halves(shape.widest()));
  for (int64_t n = 0; n < networks; ++n) {
    word* to = packed;
    bf16* to_units = units;
    for (int64_t l = 0; l < depth; ++l) {
      const Layer own = shape.at(n, l);
      pack(own.weight, own.row, own.in, own.out, to);
      pack_units(own.weight, own.row, own.in, own.out, to_units);
      to += packed_size(own.in, own.out);
      to_units += units_size(halves(own.in), own.out);
    }
    for (int64_t r = 0; r < shape.rows; r += BLOCK) {
      const int64_t rows = std::min(BLOCK, shape.rows - r);
      Left left = input(shape, n, r, rows);
      const word* right = packed;
      const bf16* right_units = units;
      for (int64_t l = 0; l < depth; ++l) {
        const Layer own = shape.at(n, l);
        const int64_t pairs = halves(own.in);
        bf16* unkept = l % 2 ? one : other;  // not what this layer reads
        const Narrow write{outputs[l] ? outputs[l] + (n * shape.rows + r) * own.out : unkept, own.out, own.out};
        const auto bias = [&](int64_t, int64_t c) {
          return _mm512_maskz_loadu_ps(first_of_16(own.out - c), own.bias + c);
        };
        const auto multiply = [&](const auto& end) {
          // for a register of columns, packing takes longer than it saves
          if (own.out > LANES && lit.pack(left, rows, pairs))
            product(LitLeft{&lit}, rows, pairs, right_units, own.out, bias, end);
          else
            product(left, rows, pairs, right, own.out, bias, end);
        };
        if (linear && l == depth - 1)
          multiply(write);
        else
          multiply([&](int64_t row, int64_t c, __m512 sums) {
            write(row, c, _mm512_max_ps(_mm512_setzero_ps(), sums));  // in this order a NaN stays one
          });
        right += packed_size(own.in, own.out);
        right_units += units_size(pairs, own.out);
        if (l + 1 < depth) left = as_left(write.at, rows, own.out, even);
      }
    }
  }
}

// A gradient where the output of ReLU is above zero, else 0; rows get a zero where they are odd.
void masked(const bf16* grad, const bf16* output, int64_t rows, int64_t width, bf16* to) {
  const int64_t even = 2 * halves(width);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < even; c += 32) {
      const __mmask32 there = first_of_32(width - c);
      const __m512i of = output ? _mm512_maskz_loadu_epi16(there, output + r * width + c) : _mm512_set1_epi16(1);
      const __mmask32 kept = _mm512_mask_cmpgt_epi16_mask(there, of, _mm512_setzero_si512());
      const __m512i found = _mm512_maskz_loadu_epi16(kept, grad + r * width + c);
      _mm512_mask_storeu_epi16(to + r * even + c, first_of_32(even - c), found);
    }
}

void backward(const Shape& shape, bool linear, const bf16* const* inputs, const bf16* const* outputs,
              const bf16* const* grads, float* const* of_weights, float* const* of_biases, bf16* const* of_inputs) {
  const int64_t networks = shape.networks(), depth = shape.depth, widest = shape.widest(), first = shape.widths[0];
  const int64_t most = std::min(BLOCK, shape.rows);
  std::vector<int64_t> sizes;
  int64_t size = 0;
  for (int64_t l = 0; l < depth; ++l) {
    sizes.push_back(packed_size(shape.widths[l + 1], shape.widths[l]));
    size += sizes.back();
  }
  Scratch<word> packed(networks * size), read(halves(most) * spread(widest)), right(halves(most) * to_lanes(widest));
  Scratch<word> entered(halves(most) * spread(first));
  Scratch<bf16> one(most * (widest + 1)), other(most * (widest + 1));
  Scratch<float> summed(shape.per_group > 1 ? most * to_lanes(first) : 0);
  for (int64_t n = 0; n < networks; ++n) {
    word* to = packed + n * size;
    for (int64_t l = 0; l < depth; to += sizes[l++]) {
      const Layer own = shape.at(n, l);
      pack_transposed(own.weight, own.row, own.in, own.out, to);
    }
  }
  for (int64_t r = 0; r < shape.rows; r += BLOCK) {
    const int64_t rows = std::min(BLOCK, shape.rows - r), pairs = halves(rows);
    for (int64_t n = 0; n < networks; ++n) {
      const int64_t group = n / shape.per_group, place = n % shape.per_group;
      if (!place) interleave(inputs[group] + r * first, first, rows, first, spread(first), entered);
      bf16 *grad = one, *next = other;
      const int64_t last = shape.widths[depth];
      const bf16* output = outputs[depth - 1] + (n * shape.rows + r) * last;
      masked(grads[n] + r * last, linear ? nullptr : output, rows, last, grad);
      const word* transposed = packed + (n + 1) * size;
      for (int64_t l = depth - 1; l >= 0; --l) {
        const Layer own = shape.at(n, l);
        transposed -= sizes[l];
        pack(grad, 2 * halves(own.out), rows, own.out, right);
        const bf16* before = l ? outputs[l - 1] + (n * shape.rows + r) * own.in : nullptr;
        if (l) interleave(before, own.in, rows, own.in, spread(own.in), read);
        const Wide of_weight{of_weights[l] + shape.start(n, l, own.in), own.row, own.out, r > 0};
        const Wide of_bias{of_biases[l] + shape.start(n, l, 1), own.out, own.out, r > 0};
        const Left left{l ? read.get() : entered.get(), 1, spread(own.in)};
        product(left, own.in, pairs, right, own.out, of_weight, of_weight);
        product({&ONES, 0, 0}, 1, pairs, right, own.out, of_bias, of_bias);
        const Left down{reinterpret_cast<const word*>(grad), halves(own.out), 1};
        if (l) {
          const int64_t even = 2 * halves(own.in);
          const Narrow write{next, even, even};
          product(down, rows, halves(own.out), transposed, own.in, nothing, [&](int64_t row, int64_t c, __m512 sums) {
            const __m256i of = _mm256_maskz_loadu_epi16(first_of_16(own.in - c), before + row * own.in + c);
            write(row, c, _mm512_maskz_mov_ps(_mm256_cmpgt_epi16_mask(of, _mm256_setzero_si256()), sums));
          });
          std::swap(grad, next);
        } else if (of_inputs[group]) {
          const Wide known{summed, to_lanes(first), to_lanes(first), place > 0};
          const Narrow write{of_inputs[group] + r * first, first, first};
          const auto add = [&](int64_t row, int64_t c, __m512 sums) {
            const __m512 before = place ? _mm512_load_ps(known.at + row * known.row + c) : _mm512_setzero_ps();
            write(row, c, _mm512_add_ps(before, sums));
          };
          if (place == shape.per_group - 1) product(down, rows, halves(own.out), transposed, first, known, add);
          else product(down, rows, halves(own.out), transposed, first, known, known);
        }
      }
    }
  }
}

}  // namespace
}  // namespace funnelcast

extern "C" {

// `inputs` by group (rows, width); `outputs` by layer (S, rows, width), null where nobody will ask for them.
int networks_forward(int64_t rows, int64_t groups, int64_t per_group, int64_t depth, int64_t linear,
                     const int64_t* widths, const float* const* weights, const float* const* biases,
                     const uint16_t* const* inputs, uint16_t* const* outputs) try {
  using namespace funnelcast;
  const Shape shape{rows, groups, per_group, depth, widths, weights, biases};
  Scratch<bf16> even(BLOCK * (shape.widest() + 1));
  forward(shape, linear, Rows{inputs, even}, even, outputs);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// The later layers of one network for pairs: `table` (`height`, widths[0]) has what the first layer makes of users
// and of items, `places` (rows, 2) which two of its rows belong to each pair. 2: a place is none of the table's.
int pairs_forward(int64_t rows, int64_t height, int64_t depth, int64_t linear, const int64_t* widths,
                  const uint16_t* table, const int64_t* places, const float* const* weights,
                  const float* const* biases, uint16_t* output) try {
  using namespace funnelcast;
  if (std::any_of(places, places + 2 * rows, [&](int64_t place) { return place < 0 || place >= height; })) return 2;
  const Shape shape{rows, 1, 1, depth, widths, weights, biases};
  Scratch<bf16> even(BLOCK * (shape.widest() + 1));
  std::vector<bf16*> outputs(depth, nullptr);
  outputs.back() = output;
  forward(shape, linear, Pairs{table, places, even}, even, outputs.data());
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// `grads` by network (rows, width); `of_inputs` by group, null where nobody asks.
int networks_backward(int64_t rows, int64_t groups, int64_t per_group, int64_t depth, int64_t linear,
                      const int64_t* widths, const float* const* weights, const float* const* biases,
                      const uint16_t* const* inputs, const uint16_t* const* outputs, const uint16_t* const* grads,
                      float* const* of_weights, float* const* of_biases, uint16_t* const* of_inputs) try {
  funnelcast::backward({rows, groups, per_group, depth, widths, weights, biases}, linear, inputs, outputs, grads,
                       of_weights, of_biases, of_inputs);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // extern "C"

// ReLU networks of equal shape, forward alone, in float32, for processors with AVX2 and nothing wider.
//
// As `../networks.cpp`: networks of a group lie side by side in the first layer's weight and one behind the other
// in the later ones, and a block of rows goes through all layers before the next. What is zero in all rows of a
// tile is not multiplied. Numbers are added in ascending order, so that leaving out zeros changes nothing to the
// bit, and neither do the rows beside.
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "../scratch.h"

namespace funnelcast {
namespace {

constexpr int64_t LANES = 8;    // numbers in a register
constexpr int64_t PANEL = 16;   // columns whose sums are kept in registers at a time,
constexpr int64_t TILE = 6;     // and rows: 6 x 2 of the 16 registers
constexpr int64_t TILES = 21;   // that go through all layers at a time, in the second cache
constexpr int64_t BLOCK = TILES * TILE;
constexpr int64_t SAMPLE = 4;   // tiles that are looked at before all of a block are packed

int64_t to(int64_t multiple, int64_t count) { return (count + multiple - 1) / multiple * multiple; }

// All bits of the first numbers of a register.
__m256i first(int64_t count) {
  const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::clamp<int64_t>(count, 0, LANES))), places);
}

// Where numbers come from so that those of a mask stand one behind the other.
struct Places {
  alignas(32) int32_t of[256][LANES];
  Places() {
    for (int mask = 0; mask < 256; ++mask) {
      int count = 0;
      for (int i = 0; i < LANES; ++i)
        if (mask >> i & 1) of[mask][count++] = i;
      while (count < LANES) of[mask][count++] = 0;
    }
  }
};
const Places PLACES;

// A right factor, panel by panel and unit by unit, filled up with zeros.
int64_t packed_size(int64_t rows, int64_t columns) { return rows * to(PANEL, columns); }
void pack(const float* from, int64_t row, int64_t rows, int64_t columns, float* packed) {
  for (int64_t c = 0; c < columns; c += PANEL)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t v = 0; v < PANEL; v += LANES, packed += LANES)
        _mm256_store_ps(packed, _mm256_maskload_ps(from + r * row + c + v, first(columns - c - v)));
}

// Rows that are multiplied: as they lie, or packed to the units that one of their tile lights.
struct Tile {
  const float* at;
  int64_t row, count;     // from one row to the next; units
  const int32_t* units;   // null: all
};

// The tiles of a block of rows, and what is packed of them.
class Lit {
 public:
  explicit Lit(int64_t widest) : row_(to(LANES, widest) + LANES), numbers_(BLOCK * row_), units_(TILES * row_) {}

  // Tiles of a block of rows of one width, packed if it pays; the last one also if it is not whole.
  void look(const float* from, int64_t rows, int64_t width, Tile* tiles) {
    const int64_t all = (rows + TILE - 1) / TILE, apart = std::max<int64_t>(1, all / SAMPLE);
    int64_t lit = 0, asked = 0;
    for (int64_t t = 0; t < all; t += apart, asked += width) lit += packed(from, rows, width, t).count;
    const bool pays = 16 * lit <= 15 * asked;
    for (int64_t t = 0; t < all; ++t)
      tiles[t] = pays || (t + 1) * TILE > rows ? packed(from, rows, width, t)
                                               : Tile{from + t * TILE * width, width, width, nullptr};
  }

 private:
  Tile packed(const float* from, int64_t rows, int64_t width, int64_t tile) {
    const int64_t first_row = tile * TILE, there = std::min(TILE, rows - first_row);
    const float* at = from + first_row * width;
    float* numbers = numbers_ + first_row * row_;
    int32_t* units = units_ + tile * row_;
    int64_t lit = 0;
    for (int64_t u = 0; u < width; u += LANES) {
      if (there == TILE && u + LANES <= width) {
        lit += pack_units(u, numbers + lit, units + lit, [&](int64_t i) { return _mm256_loadu_ps(at + i * width + u); });
      } else {
        const __m256i inside = first(width - u), none = _mm256_setzero_si256();
        lit += pack_units(u, numbers + lit, units + lit, [&](int64_t i) {
          return _mm256_maskload_ps(at + i * width + u, i < there ? inside : none);
        });
      }
    }
    return {numbers, row_, lit, units};
  }

  // Of units from `unit` on; how many are lit.
  template <typename Read>
  inline __attribute__((always_inline)) int64_t pack_units(int64_t unit, float* numbers, int32_t* units,
                                                           const Read& read) const {
    __m256 found[TILE], any = _mm256_setzero_ps();
#pragma GCC unroll 8
    for (int64_t i = 0; i < TILE; ++i) any = _mm256_or_ps(any, found[i] = read(i));
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(any, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    const __m256i places = _mm256_load_si256(reinterpret_cast<const __m256i*>(PLACES.of[mask]));
#pragma GCC unroll 8
    for (int64_t i = 0; i < TILE; ++i) _mm256_storeu_ps(numbers + i * row_, _mm256_permutevar8x32_ps(found[i], places));
    const __m256i own = _mm256_add_epi32(places, _mm256_set1_epi32(static_cast<int>(unit)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(units), own);
    return __builtin_popcount(mask);
  }

  int64_t row_;
  Scratch<float> numbers_;
  Scratch<int32_t> units_;
};

template <bool ALL>
inline __attribute__((always_inline)) void multiply(const Tile& left, const float* right, const float* bias,
                                                    __m256 (&sums)[TILE][2]) {
  for (int i = 0; i < TILE; ++i)
    for (int v = 0; v < 2; ++v) sums[i][v] = _mm256_load_ps(bias + v * LANES);
  for (int64_t k = 0; k < left.count; ++k) {
    const float* unit = right + (ALL ? k : left.units[k]) * PANEL;
    const __m256 columns[2] = {_mm256_load_ps(unit), _mm256_load_ps(unit + LANES)};
    for (int i = 0; i < TILE; ++i) {
      const __m256 row = _mm256_broadcast_ss(left.at + i * left.row + k);
      for (int v = 0; v < 2; ++v) sums[i][v] = _mm256_fmadd_ps(row, columns[v], sums[i][v]);
    }
  }
}

// A layer of a block: `output` has rows of `out` numbers, `bias` is filled up with zeros to a panel.
void layer(const Tile* tiles, int64_t rows, int64_t in, int64_t out, const float* right, const float* bias, bool relu,
           float* output) {
  const __m256 zero = _mm256_setzero_ps();
  for (int64_t c = 0; c < out; c += PANEL, right += in * PANEL)
    for (int64_t r = 0; r < rows; r += TILE) {
      __m256 sums[TILE][2];
      const Tile& left = tiles[r / TILE];
      if (left.units) multiply<false>(left, right, bias + c, sums);
      else multiply<true>(left, right, bias + c, sums);
#pragma GCC unroll 8
      for (int64_t i = 0; i < TILE; ++i)
#pragma GCC unroll 2
        for (int64_t v = 0; v < 2; ++v) {
          if (r + i >= rows) continue;
          const __m256 found = relu ? _mm256_max_ps(zero, sums[i][v]) : sums[i][v];  // in this order a NaN stays one
          float* write = output + (r + i) * out + c + v * LANES;
          if (c + PANEL <= out) {
            _mm256_storeu_ps(write, found);
          } else {  // not by a masked store, which takes some processors ten times as long
            alignas(32) float part[LANES];
            _mm256_store_ps(part, found);
            std::copy_n(part, std::clamp<int64_t>(out - c - v * LANES, 0, LANES), write);
          }
        }
    }
}

struct Shape {
  int64_t rows, groups, per_group, depth;
  const int64_t* widths;  // of the input and of every layer's output
  const float* const* weights;
  const float* const* biases;
};

// `input(network, row, rows)` is where a block of rows of what a network reads lies, one behind the other.
template <typename Input>
void forward(const Shape& shape, bool linear, const Input& input, float* output) {
  const int64_t depth = shape.depth, last = shape.widths[depth];
  const int64_t widest = *std::max_element(shape.widths, shape.widths + depth + 1);
  int64_t size = 0;
  for (int64_t l = 0; l < depth; ++l) size += packed_size(shape.widths[l], shape.widths[l + 1]);
  Scratch<float> weights(size), biases(depth * to(PANEL, widest)), one(BLOCK * widest), other(BLOCK * widest);
  Scratch<Tile> tiles(TILES);
  Lit lit(widest);
  for (int64_t n = 0; n < shape.groups * shape.per_group; ++n) {
    float* packed = weights;
    for (int64_t l = 0; l < depth; ++l) {
      const int64_t in = shape.widths[l], out = shape.widths[l + 1], row = l ? out : shape.per_group * out;
      const int64_t group = n / shape.per_group, place = n % shape.per_group * out;
      pack(shape.weights[l] + (l ? n * in * out : group * in * row + place), row, in, out, packed);
      pack(shape.biases[l] + (l ? n * out : group * row + place), row, 1, out, biases + l * to(PANEL, widest));
      packed += packed_size(in, out);
    }
    for (int64_t r = 0; r < shape.rows; r += BLOCK) {
      const int64_t rows = std::min(BLOCK, shape.rows - r);
      const float *read = input(n, r, rows), *right = weights;
      for (int64_t l = 0; l < depth; ++l) {
        const int64_t in = shape.widths[l], out = shape.widths[l + 1];
        float* write = l == depth - 1 ? output + (n * shape.rows + r) * last : l % 2 ? one : other;
        lit.look(read, rows, in, tiles);
        layer(tiles, rows, in, out, right, biases + l * to(PANEL, widest), !(linear && l == depth - 1), write);
        right += packed_size(in, out);
        read = write;
      }
    }
  }
}

}  // namespace
}  // namespace funnelcast

extern "C" {

// `inputs` by group (rows, width); `output` (S, rows, width).
int networks_forward(int64_t rows, int64_t groups, int64_t per_group, int64_t depth, int64_t linear,
                     const int64_t* widths, const float* const* weights, const float* const* biases,
                     const float* const* inputs, float* output) try {
  using namespace funnelcast;
  const Shape shape{rows, groups, per_group, depth, widths, weights, biases};
  forward(shape, linear, [&](int64_t n, int64_t r, int64_t) { return inputs[n / per_group] + r * widths[0]; }, output);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// The later layers of one network for pairs: `table` (`height`, widths[0]) has what the first layer makes of users
// and of items, `places` (rows, 2) which two of its rows belong to each pair. 2: a place is none of the table's.
int pairs_forward(int64_t rows, int64_t height, int64_t depth, int64_t linear, const int64_t* widths,
                  const float* table, const int64_t* places, const float* const* weights, const float* const* biases,
                  float* output) try {
  using namespace funnelcast;
  if (std::any_of(places, places + 2 * rows, [&](int64_t place) { return place < 0 || place >= height; })) return 2;
  const int64_t width = widths[0];
  Scratch<float> summed(BLOCK * width);
  const auto input = [&](int64_t, int64_t r, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const float *user = table + places[2 * (r + i)] * width, *item = table + places[2 * (r + i) + 1] * width;
      float* sum = summed + i * width;
      for (int64_t c = 0; c < width; ++c) {
        const float found = user[c] + item[c];
        sum[c] = found < 0 ? 0 : found;  // so a NaN stays one
      }
    }
    return static_cast<const float*>(summed);
  };
  forward({rows, 1, 1, depth, widths, weights, biases}, linear, input, output);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // extern "C"

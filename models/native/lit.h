// Products whose left factor comes out of ReLU: of what is zero in all rows of a tile, nothing is multiplied.
//
// Rows of a tile are packed to the units that one of them lights, and the right factor lies unit by unit, so that
// any two units make a word: their columns are interleaved as they are read, by four instructions to 24 that
// multiply. A number that is left out would have added nothing, and the others are added in the same order as they
// would be with it (see `Left`), so what is found is the same to the bit.
#pragma once

#include "products.h"

namespace funnelcast {

constexpr int64_t UNITS = 32;  // numbers of bfloat16 in a register

inline int64_t to_units(int64_t count) { return (count + UNITS - 1) / UNITS * UNITS; }

// Numbers of a right factor that lies unit by unit, an even number of them and one behind that is zero.
inline int64_t units_size(int64_t pairs, int64_t columns) { return (2 * pairs + 1) * to_units(columns); }

// Where the numbers of 32 columns lie so that interleaving them with those of another unit, quarter by quarter of
// a register, gives the first 16 columns in their order, then the others.
inline __m512i by_quarters() {
  alignas(64) uint16_t places[UNITS];
  for (int q = 0; q < 4; ++q)
    for (int i = 0; i < 4; ++i) {
      places[8 * q + i] = static_cast<uint16_t>(4 * q + i);
      places[8 * q + 4 + i] = static_cast<uint16_t>(UNITS + 4 * q + i);
    }
  return _mm512_load_si512(places);
}

// A right factor out of `rows` rows of float32, rounded, panel by panel and unit by unit.
inline void pack_units(const float* from, int64_t row, int64_t rows, int64_t columns, bf16* to) {
  const __m512i places = by_quarters();
  for (int64_t first = 0; first < columns; first += PANEL) {
    const int64_t width = std::min(PANEL, columns - first);
    for (int64_t r = 0; r <= 2 * halves(rows); ++r)
      for (int64_t c = 0; c < width; c += UNITS, to += UNITS) {
        const auto read = [&](int64_t behind) {
          const __mmask16 there = r < rows ? first_of_16(width - c - behind) : 0;
          return _mm512_castsi256_si512(rounded(_mm512_maskz_loadu_ps(there, from + r * row + first + c + behind)));
        };
        _mm512_store_si512(to, _mm512_permutex2var_epi16(read(0), places, read(LANES)));
      }
  }
}

// The rows of a left factor, tile by tile, without what is zero in all of them.
class Lit {
 public:
  // For up to so many rows and units.
  Lit(int64_t rows, int64_t units)
      : row_(to_units(units)), numbers_(tiles(rows) * TILE * row_), units_(tiles(rows) * row_), words_(tiles(rows)) {}

  // Pack rows whose pairs are words, one behind the other; not if a few tiles say that too little is left out.
  bool pack(const Left& left, int64_t rows, int64_t pairs) {
    if (pairs > MOST) return false;
    const int64_t all = tiles(rows), apart = std::max<int64_t>(1, all / SAMPLE);
    int64_t lit = 0, asked = 0;
    for (int64_t t = 0; t < all; t += apart, asked += 2 * pairs) lit += pack_tile(left, rows, pairs, t);
    if (16 * lit > 15 * asked) return false;
    for (int64_t t = 0; t < all; ++t) pack_tile(left, rows, pairs, t);
    return true;
  }

  int64_t row() const { return row_; }
  int64_t words(int64_t tile) const { return words_[tile]; }
  const bf16* numbers(int64_t tile) const { return numbers_ + tile * TILE * row_; }
  const uint16_t* units(int64_t tile) const { return units_ + tile * row_; }

 private:
  static constexpr int64_t SAMPLE = 4;
  static constexpr int64_t MOST = 0x7fff;  // pairs whose places, and one behind, are 16 bits wide

  static int64_t tiles(int64_t rows) { return (rows + TILE - 1) / TILE; }

  // How many units are lit.
  int64_t pack_tile(const Left& left, int64_t rows, int64_t pairs, int64_t tile) {
    alignas(64) static constexpr uint16_t FIRST[UNITS] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                          11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                                          22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    const int64_t first = tile * TILE, count = std::min(TILE, rows - first), all = 2 * pairs;
    const bf16* from = reinterpret_cast<const bf16*>(left.at + first * left.row);
    bf16* numbers = numbers_ + first * row_;
    uint16_t* units = units_ + tile * row_;
    int64_t lit = 0;
    for (int64_t u = 0; u < all; u += UNITS) {
      const __mmask32 there = first_of_32(all - u);
      __m512i read[TILE], any = _mm512_setzero_si512();
      for (int64_t i = 0; i < TILE; ++i) {
        read[i] = _mm512_maskz_loadu_epi16(i < count ? there : 0, from + 2 * i * left.row + u);
        any = _mm512_or_si512(any, read[i]);
      }
      const __mmask32 kept = _mm512_test_epi16_mask(any, any);
      const __m512i places = _mm512_add_epi16(_mm512_load_si512(FIRST), _mm512_set1_epi16(static_cast<short>(u)));
      _mm512_storeu_si512(units + lit, _mm512_maskz_compress_epi16(kept, places));  // never behind the next 32
      for (int64_t i = 0; i < TILE; ++i)
        _mm512_storeu_si512(numbers + i * row_ + lit, _mm512_maskz_compress_epi16(kept, read[i]));
      lit += __builtin_popcount(kept);
    }
    if (lit % 2) {  // the zero behind the units of the right factor
      units[lit] = static_cast<uint16_t>(all);
      for (int64_t i = 0; i < TILE; ++i) numbers[i * row_ + lit] = 0;
    }
    words_[tile] = halves(lit);
    return lit;
  }

  int64_t row_;
  Scratch<bf16> numbers_;
  Scratch<uint16_t> units_;
  Scratch<int64_t> words_;
};

// As a left factor; the right one lies unit by unit.
struct LitLeft {
  using Right = bf16;
  const Lit* lit;

  static int64_t panel_size(int64_t pairs, int64_t vectors) { return units_size(pairs, vectors * LANES); }

  int64_t words(int64_t r, int64_t) const { return lit->words(r / TILE); }
  int64_t apart() const { return lit->row() / 2; }

  template <int VECTORS>
  inline __attribute__((always_inline)) const word* read(int64_t r, int64_t k, const bf16* right,
                                                         __m512bh (&columns)[VECTORS]) const {
    constexpr int64_t width = (VECTORS + 1) / 2 * UNITS;
    const uint16_t* units = lit->units(r / TILE) + 2 * k;
    const bf16 *first = right + units[0] * width, *second = right + units[1] * width;
    for (int v = 0; v < VECTORS; v += 2) {
      const __m512i one = _mm512_load_si512(first + v * LANES), other = _mm512_load_si512(second + v * LANES);
      columns[v] = (__m512bh)_mm512_unpacklo_epi16(one, other);
      if (v + 1 < VECTORS) columns[v + 1] = (__m512bh)_mm512_unpackhi_epi16(one, other);
    }
    return reinterpret_cast<const word*>(lit->numbers(r / TILE)) + k;
  }
};

}  // namespace funnelcast

// Products of bfloat16 whose sums are float32, for processors with AVX-512 and its bfloat16 instructions.
//
// One instruction multiplies 16 pairs of words and adds both products of each. The right factor lies as
// `packing.h` says; the left one is read as it lies, by its strides.
#pragma once

#include "packing.h"

namespace funnelcast {

// The left factor of a product: the word of row r and pair k lies at `at[r * row + k * pair]`.
//
// The last pair is added first, and of a pair its second number, as the instruction does: numbers in falling
// order. So it makes no difference to the bit if those are left out that are zero (`lit.h`).
struct Left {
  using Right = word;  // as `pack` lays it out
  const word* at;
  int64_t row, pair;

  static int64_t panel_size(int64_t pairs, int64_t vectors) { return pairs * vectors * LANES; }
  int64_t words(int64_t, int64_t pairs) const { return pairs; }
  int64_t apart() const { return row; }

  // Where word k of the rows from r on lies, and the columns that it is multiplied with.
  template <int VECTORS>
  inline __attribute__((always_inline)) const word* read(int64_t r, int64_t k, const word* right,
                                                         __m512bh (&columns)[VECTORS]) const {
    for (int v = 0; v < VECTORS; ++v) columns[v] = (__m512bh)_mm512_load_si512(right + (k * VECTORS + v) * LANES);
    return at + r * row + k * pair;
  }
};

// Rows of bfloat16 as a left factor: pairs along a row are words if the row is even, else it gets a zero.
inline Left as_left(const bf16* from, int64_t rows, int64_t width, bf16* even) {
  if (width % 2) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(even + r * (width + 1), from + r * width, width * sizeof(bf16));
      even[r * (width + 1) + width] = 0;
    }
    from = even;
  }
  return {reinterpret_cast<const word*>(from), halves(width), 1};
}

template <int ROWS, int VECTORS, typename Factor, typename Begin, typename End>
inline __attribute__((always_inline)) void tile(const Factor& left, int64_t pairs, const typename Factor::Right* right,
                                                int64_t r, int64_t c, const Begin& begin, const End& end) {
  __m512 sums[ROWS][VECTORS];
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < VECTORS; ++v) sums[i][v] = begin(r + i, c + v * LANES);
  const int64_t apart = left.apart();
  for (int64_t k = left.words(r, pairs); k--;) {
    __m512bh columns[VECTORS];
    const word* at = left.read(r, k, right, columns);
    for (int i = 0; i < ROWS; ++i) {
      word found;
      std::memcpy(&found, at + i * apart, sizeof found);
      const __m512bh row = (__m512bh)_mm512_set1_epi32(static_cast<int>(found));
      for (int v = 0; v < VECTORS; ++v) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], row, columns[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) end(r + i, c + v * LANES, sums[i][v]);
}

template <int VECTORS, typename Factor, typename Begin, typename End>
inline void panel(const Factor& left, int64_t rows, int64_t pairs, const typename Factor::Right* right, int64_t c,
                  const Begin& begin, const End& end) {
  int64_t r = 0;
  for (; r + TILE <= rows; r += TILE) tile<TILE, VECTORS>(left, pairs, right, r, c, begin, end);
  switch (rows - r) {
    case 5: return tile<5, VECTORS>(left, pairs, right, r, c, begin, end);
    case 4: return tile<4, VECTORS>(left, pairs, right, r, c, begin, end);
    case 3: return tile<3, VECTORS>(left, pairs, right, r, c, begin, end);
    case 2: return tile<2, VECTORS>(left, pairs, right, r, c, begin, end);
    case 1: return tile<1, VECTORS>(left, pairs, right, r, c, begin, end);
  }
}

// `left right`, 16 columns of a row at a time: `begin(row, column)` is what is added to, and `end(row, column,
// sums)` takes what was found. Columns at and behind `columns` are asked for, too, up to the next 16.
template <typename Begin, typename End, typename Factor = Left>
inline void product(const Factor& left, int64_t rows, int64_t pairs, const typename Factor::Right* right,
                    int64_t columns, const Begin& begin, const End& end) {
  for (int64_t c = 0; c < columns; c += PANEL) {
    const int64_t vectors = panel_width(columns, c) / LANES;
    switch (vectors) {
      case 4: panel<4>(left, rows, pairs, right, c, begin, end); break;
      case 3: panel<3>(left, rows, pairs, right, c, begin, end); break;
      case 2: panel<2>(left, rows, pairs, right, c, begin, end); break;
      case 1: panel<1>(left, rows, pairs, right, c, begin, end); break;
    }
    right += Factor::panel_size(pairs, vectors);
  }
}

// What sums begin with, and where they go.
inline __m512 nothing(int64_t, int64_t) { return _mm512_setzero_ps(); }

struct Wide {  // float32, to be written, or added to
  float* at;
  int64_t row, columns;
  bool add;
  __m512 operator()(int64_t r, int64_t c) const {
    // wanted once the sums are complete, and then in the first cache
    if (add) _mm_prefetch(reinterpret_cast<const char*>(at + r * row + c), _MM_HINT_T0);
    return _mm512_setzero_ps();
  }
  void operator()(int64_t r, int64_t c, __m512 sums) const {
    const __mmask16 there = first_of_16(columns - c);
    float* to = at + r * row + c;
    _mm512_mask_storeu_ps(to, there, add ? _mm512_add_ps(sums, _mm512_maskz_loadu_ps(there, to)) : sums);
  }
};

struct Narrow {  // bfloat16, to be written
  bf16* at;
  int64_t row, columns;
  void operator()(int64_t r, int64_t c, __m512 sums) const {
    _mm256_mask_storeu_epi16(at + r * row + c, first_of_16(columns - c), rounded(sums));
  }
};

}  // namespace funnelcast

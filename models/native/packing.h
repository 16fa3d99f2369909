// bfloat16 as the factors of products want it, for processors with AVX-512 and its bfloat16 instructions.
//
// A word holds two neighbours along the axis that is summed over. A right factor lies in panels of up to 64
// columns, word by word, so that it is read in one stream that fits the first cache.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "scratch.h"

namespace funnelcast {

using bf16 = uint16_t;
using word = uint32_t;

constexpr int64_t LANES = 16;  // numbers of float32, or words, in a register
constexpr int64_t PANEL = 64;  // columns whose sums are kept in registers at a time,
constexpr int64_t TILE = 6;    // and rows: 6 x 4 of the 32 registers
constexpr word ONES = 0x3f803f80;

inline int64_t halves(int64_t count) { return (count + 1) / 2; }
inline int64_t to_lanes(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

inline __mmask16 first_of_16(int64_t count) {
  return count >= 16 ? 0xffff : static_cast<__mmask16>((1u << std::max<int64_t>(count, 0)) - 1);
}
inline __mmask32 first_of_32(int64_t count) {
  return count >= 32 ? 0xffffffffu : static_cast<__mmask32>((1u << std::max<int64_t>(count, 0)) - 1);
}
inline word read_word(const bf16* at) {
  word found;
  std::memcpy(&found, at, sizeof found);
  return found;
}
inline __m512 widened(__m256i narrow) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}
inline __m256i rounded(__m512 wide) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(wide)); }

inline bf16 rounded(float wide) {
  return static_cast<bf16>(_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(wide)), 0));
}

// Words of one panel of a right factor: `pairs` rows of them, each as wide as the panel, filled up to lanes.
inline int64_t panel_width(int64_t columns, int64_t first) {
  return to_lanes(std::min(PANEL, columns - first));
}
// Words of a whole right factor with so many rows and columns.
inline int64_t packed_size(int64_t rows, int64_t columns) { return halves(rows) * to_lanes(columns); }

// Words of two rows of bfloat16, 16 columns of them.
inline __m512i interleaved(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

// Where the words of 32 columns come from, the first 16 and the others; 32 and above is the odd row.
inline __m512i interleaving(int first) {
  alignas(64) uint16_t places[32];
  for (int i = 0; i < 32; ++i) places[i] = static_cast<uint16_t>(first + i / 2 + i % 2 * 32);
  return _mm512_load_si512(places);
}

// A right factor out of `rows` rows of float32, rounded.
inline void pack(const float* from, int64_t row, int64_t rows, int64_t columns, word* to) {
  for (int64_t first = 0; first < columns; first += PANEL) {
    const int64_t width = panel_width(columns, first);
    for (int64_t r = 0; r < rows; r += 2, to += width)
      for (int64_t v = 0; v < width; v += LANES) {
        const __mmask16 there = first_of_16(columns - first - v);
        const float* at = from + r * row + first + v;
        const __m512 even = _mm512_maskz_loadu_ps(there, at);
        const __m512 odd = r + 1 < rows ? _mm512_maskz_loadu_ps(there, at + row) : _mm512_setzero_ps();
        _mm512_store_si512(to + v, interleaved(rounded(even), rounded(odd)));
      }
  }
}

// 16 rows of 16 words, each row `apart` from the next, turned round.
inline void transpose(const word* from, int64_t from_apart, word* to, int64_t to_apart) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * from_apart);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {  // of words 0 and 1, then 2 and 3 of every quarter
      a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
      a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
    }
  for (int w = 0; w < 4; ++w) {  // word w of every quarter, of all rows
    const __m512i low = _mm512_shuffle_i32x4(a[w], a[w + 4], 0x88), high = _mm512_shuffle_i32x4(a[w + 8], a[w + 12], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(a[w], a[w + 4], 0xdd), high_odd = _mm512_shuffle_i32x4(a[w + 8], a[w + 12], 0xdd);
    _mm512_store_si512(to + w * to_apart, _mm512_shuffle_i32x4(low, high, 0x88));
    _mm512_store_si512(to + (w + 8) * to_apart, _mm512_shuffle_i32x4(low, high, 0xdd));
    _mm512_store_si512(to + (w + 4) * to_apart, _mm512_shuffle_i32x4(low_odd, high_odd, 0x88));
    _mm512_store_si512(to + (w + 12) * to_apart, _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd));
  }
}

// The same of the transposed: its rows are the columns of what is told.
inline void pack_transposed(const float* from, int64_t row, int64_t rows, int64_t columns, word* to) {
  const int64_t pairs = halves(columns), apart = to_lanes(pairs);
  Scratch<word> narrow(PANEL * apart), turned(LANES * apart);
  std::memset(narrow, 0, PANEL * apart * sizeof(word));
  for (int64_t first = 0; first < rows; first += PANEL) {
    const int64_t width = panel_width(rows, first);
    for (int64_t r = 0; r < width; ++r)
      for (int64_t c = 0; c < columns; c += LANES) {
        const __mmask16 there = first + r < rows ? first_of_16(columns - c) : 0;
        const __m512 wide = _mm512_maskz_loadu_ps(there, from + (first + r) * row + c);
        _mm256_store_si256(reinterpret_cast<__m256i*>(narrow + r * apart + c / 2), rounded(wide));
      }
    for (int64_t r = 0; r < width; r += LANES) {
      for (int64_t k = 0; k < pairs; k += LANES) transpose(narrow + r * apart + k, apart, turned + k * LANES, LANES);
      for (int64_t k = 0; k < pairs; ++k)
        _mm512_store_si512(to + k * width + r, _mm512_load_si512(turned + k * LANES));
    }
    to += pairs * width;
  }
}

// Pairs of rows of bfloat16 as rows of words, each `apart` from the next.
inline void interleave(const bf16* from, int64_t row, int64_t rows, int64_t columns, int64_t apart, word* to) {
  const __m512i first = interleaving(0), second = interleaving(16);
  for (int64_t r = 0; r < rows; r += 2, to += apart)
    for (int64_t c = 0; c < columns; c += 2 * LANES) {
      const __mmask32 there = first_of_32(columns - c);
      const bf16* at = from + r * row + c;
      const __m512i even = _mm512_maskz_loadu_epi16(there, at);
      const __m512i odd = r + 1 < rows ? _mm512_maskz_loadu_epi16(there, at + row) : _mm512_setzero_si512();
      _mm512_store_si512(to + c, _mm512_permutex2var_epi16(even, first, odd));
      if (columns - c > LANES) _mm512_store_si512(to + c + LANES, _mm512_permutex2var_epi16(even, second, odd));
    }
}

// A right factor out of rows of bfloat16.
inline void pack(const bf16* from, int64_t row, int64_t rows, int64_t columns, word* to) {
  for (int64_t first = 0; first < columns; first += PANEL) {
    const int64_t width = panel_width(columns, first);
    interleave(from + first, row, rows, std::min(PANEL, columns - first), width, to);
    to += halves(rows) * width;
  }
}

}  // namespace funnelcast

// The instructions that the kernels use, element by element, for processors that do not have them.
//
// The compiler finds this file instead of its own of the same name. Whatever a masked instruction may not touch
// is not touched here either; an instruction that no kernel uses is not here, and would not compile.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define EMULATED inline

typedef float __m128 __attribute__((vector_size(16)));
typedef long long __m128i __attribute__((vector_size(16)));
typedef short __m128bh __attribute__((vector_size(16)));
typedef long long __m256i __attribute__((vector_size(32)));
typedef short __m256bh __attribute__((vector_size(32)));
typedef float __m512 __attribute__((vector_size(64)));
typedef long long __m512i __attribute__((vector_size(64)));
typedef short __m512bh __attribute__((vector_size(64)));
typedef uint16_t __mmask16;
typedef uint32_t __mmask32;

namespace emulated {

// The elements of a register as another type, and back.
template <typename Element, typename Register>
struct Elements {
  static constexpr int COUNT = sizeof(Register) / sizeof(Element);
  Element at[COUNT];
  EMULATED Elements() : at{} {}
  EMULATED explicit Elements(Register told) { std::memcpy(at, &told, sizeof at); }
  EMULATED operator Register() const {
    Register found;
    std::memcpy(&found, at, sizeof found);
    return found;
  }
};
using F16 = Elements<float, __m512>;
using I16 = Elements<int32_t, __m512i>;
using U16 = Elements<uint32_t, __m512i>;
using Q8 = Elements<int64_t, __m512i>;
using H32 = Elements<int16_t, __m512i>;
using H16 = Elements<int16_t, __m256i>;

EMULATED float widened(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float found;
  std::memcpy(&found, &bits, sizeof found);
  return found;
}

// To the nearest bfloat16, of two as near the even one; a NaN stays one; too small a number becomes zero.
EMULATED uint16_t rounded(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  if (number != number) return static_cast<uint16_t>(bits >> 16 | 0x40);
  if (!(bits & 0x7f800000)) return static_cast<uint16_t>(bits >> 16 & 0x8000);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Elements of memory where the mask has a one, others are zero or are not written.
template <typename Found, typename Mask>
EMULATED Found load(Mask mask, const void* from) {
  Found found;
  const char* bytes = static_cast<const char*>(from);
  for (int i = 0; i < Found::COUNT; ++i)
    if (mask >> i & 1) std::memcpy(&found.at[i], bytes + i * sizeof found.at[0], sizeof found.at[0]);
  return found;
}
template <typename Told, typename Mask>
EMULATED void store(void* to, Mask mask, const Told& told) {
  char* bytes = static_cast<char*>(to);
  for (int i = 0; i < Told::COUNT; ++i)
    if (mask >> i & 1) std::memcpy(bytes + i * sizeof told.at[0], &told.at[i], sizeof told.at[0]);
}
template <typename Register>
EMULATED Register load_all(const void* from) {
  Register found;
  std::memcpy(&found, from, sizeof found);
  return found;
}

// An aligned instruction raises where the address is not, as the processor does.
EMULATED void check_aligned(const void* at, uintptr_t bytes) {
  if (reinterpret_cast<uintptr_t>(at) % bytes) __builtin_trap();
}

}  // namespace emulated

// --- memory

enum _mm_hint { _MM_HINT_T0 };
EMULATED void _mm_prefetch(const char* at, _mm_hint) { __builtin_prefetch(at); }

EMULATED __m512 _mm512_load_ps(const void* at) {
  emulated::check_aligned(at, 64);
  return emulated::load_all<__m512>(at);
}
EMULATED __m512i _mm512_load_si512(const void* at) {
  emulated::check_aligned(at, 64);
  return emulated::load_all<__m512i>(at);
}
EMULATED __m512i _mm512_loadu_si512(const void* at) { return emulated::load_all<__m512i>(at); }
EMULATED __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* at) {
  return emulated::load<emulated::F16>(mask, at);
}
EMULATED __m512i _mm512_maskz_loadu_epi32(__mmask16 mask, const void* at) {
  return emulated::load<emulated::I16>(mask, at);
}
EMULATED __m512i _mm512_maskz_loadu_epi16(__mmask32 mask, const void* at) {
  return emulated::load<emulated::H32>(mask, at);
}
EMULATED __m256i _mm256_maskz_loadu_epi16(__mmask16 mask, const void* at) {
  return emulated::load<emulated::H16>(mask, at);
}
EMULATED void _mm512_store_ps(void* at, __m512 told) {
  emulated::check_aligned(at, 64);
  std::memcpy(at, &told, sizeof told);
}
EMULATED void _mm512_store_si512(void* at, __m512i told) {
  emulated::check_aligned(at, 64);
  std::memcpy(at, &told, sizeof told);
}
EMULATED void _mm256_store_si256(__m256i* at, __m256i told) {
  emulated::check_aligned(at, 32);
  std::memcpy(at, &told, sizeof told);
}
EMULATED void _mm512_storeu_si512(void* at, __m512i told) { std::memcpy(at, &told, sizeof told); }
EMULATED void _mm512_mask_storeu_ps(void* at, __mmask16 mask, __m512 told) {
  emulated::store(at, mask, emulated::F16(told));
}
EMULATED void _mm512_mask_storeu_epi16(void* at, __mmask32 mask, __m512i told) {
  emulated::store(at, mask, emulated::H32(told));
}
EMULATED void _mm256_mask_storeu_epi16(void* at, __mmask16 mask, __m256i told) {
  emulated::store(at, mask, emulated::H16(told));
}

// --- the same everywhere

EMULATED __m128 _mm_set_ss(float number) { return __m128{number, 0, 0, 0}; }
EMULATED __m512 _mm512_setzero_ps() { return __m512{}; }
EMULATED __m512i _mm512_setzero_si512() { return __m512i{}; }
EMULATED __m256i _mm256_setzero_si256() { return __m256i{}; }
EMULATED __m512 _mm512_set1_ps(float number) {
  emulated::F16 found;
  for (float& one : found.at) one = number;
  return found;
}
EMULATED __m512i _mm512_set1_epi32(int number) {
  emulated::I16 found;
  for (int32_t& one : found.at) one = number;
  return found;
}
EMULATED __m512i _mm512_set1_epi16(short number) {
  emulated::H32 found;
  for (int16_t& one : found.at) one = number;
  return found;
}

// --- arithmetic

EMULATED __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
EMULATED __m512 _mm512_sub_ps(__m512 a, __m512 b) { return a - b; }
EMULATED __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
EMULATED __m512 _mm512_div_ps(__m512 a, __m512 b) { return a / b; }
EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { return a * b + c; }
EMULATED __m512 _mm512_fnmadd_ps(__m512 a, __m512 b, __m512 c) { return c - a * b; }
EMULATED __m512 _mm512_sqrt_ps(__m512 a) {
  emulated::F16 found(a);
  for (float& one : found.at) one = std::sqrt(one);
  return found;
}
EMULATED __m512 _mm512_max_ps(__m512 a, __m512 b) {  // the second where neither is larger, or one is a NaN
  emulated::F16 found(a), other(b);
  for (int i = 0; i < 16; ++i) found.at[i] = found.at[i] > other.at[i] ? found.at[i] : other.at[i];
  return found;
}
EMULATED float _mm512_reduce_add_ps(__m512 a) {
  emulated::F16 found(a);
  for (int step = 8; step; step /= 2)
    for (int i = 0; i < step; ++i) found.at[i] += found.at[i + step];
  return found.at[0];
}

// --- bfloat16

EMULATED __m128bh _mm_cvtneps_pbh(__m128 told) {
  __m128bh found{};
  for (int i = 0; i < 4; ++i) found[i] = static_cast<short>(emulated::rounded(told[i]));
  return found;
}
EMULATED __m256bh _mm512_cvtneps_pbh(__m512 told) {
  const emulated::F16 wide(told);
  emulated::Elements<uint16_t, __m256bh> found;
  for (int i = 0; i < 16; ++i) found.at[i] = emulated::rounded(wide.at[i]);
  return found;
}
#ifdef COUNT_PRODUCTS
extern "C" {
inline int64_t products_made = 0;  // since the library was loaded
}
#endif
EMULATED __m512 _mm512_dpbf16_ps(__m512 sums, __m512bh a, __m512bh b) {
#ifdef COUNT_PRODUCTS
  ++products_made;
#endif
  typedef uint32_t Words __attribute__((vector_size(64)));
  const Words one = (Words)a, other = (Words)b;
  const __m512 odd = (__m512)(one & 0xffff0000u) * (__m512)(other & 0xffff0000u);
  return (sums + odd) + (__m512)(one << 16) * (__m512)(other << 16);
}

// --- bits and places

EMULATED int _mm_extract_epi16(__m128i told, int place) {
  uint16_t found;
  std::memcpy(&found, reinterpret_cast<const char*>(&told) + 2 * place, sizeof found);
  return found;
}
EMULATED __m512 _mm512_castsi512_ps(__m512i told) { return (__m512)told; }
EMULATED __m512i _mm512_castsi256_si512(__m256i told) {
  __m512i found{};
  std::memcpy(&found, &told, sizeof told);
  return found;
}
EMULATED __m512i _mm512_and_si512(__m512i a, __m512i b) { return a & b; }
EMULATED __m512i _mm512_or_si512(__m512i a, __m512i b) { return a | b; }
EMULATED __m512i _mm512_slli_epi32(__m512i told, unsigned count) {
  emulated::U16 found(told);
  for (uint32_t& one : found.at) one = count < 32 ? one << count : 0;
  return found;
}
EMULATED __m512i _mm512_add_epi16(__m512i a, __m512i b) {
  const emulated::H32 other(b);
  emulated::H32 found(a);
  for (int i = 0; i < 32; ++i) found.at[i] = static_cast<int16_t>(found.at[i] + other.at[i]);
  return found;
}
EMULATED __m512i _mm512_cvtepu16_epi32(__m256i told) {
  const emulated::H16 narrow(told);
  emulated::U16 found;
  for (int i = 0; i < 16; ++i) found.at[i] = static_cast<uint16_t>(narrow.at[i]);
  return found;
}
EMULATED __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 told) {
  emulated::F16 found(told);
  for (int i = 0; i < 16; ++i)
    if (!(mask >> i & 1)) found.at[i] = 0;
  return found;
}
EMULATED __mmask16 _mm256_cmpgt_epi16_mask(__m256i a, __m256i b) {
  const emulated::H16 one(a), other(b);
  unsigned found = 0;
  for (int i = 0; i < 16; ++i) found |= static_cast<unsigned>(one.at[i] > other.at[i]) << i;
  return static_cast<__mmask16>(found);
}
EMULATED __mmask32 _mm512_mask_cmpgt_epi16_mask(__mmask32 mask, __m512i a, __m512i b) {
  const emulated::H32 one(a), other(b);
  __mmask32 found = 0;
  for (int i = 0; i < 32; ++i) found |= static_cast<__mmask32>(one.at[i] > other.at[i]) << i;
  return found & mask;
}
EMULATED __mmask32 _mm512_cmpeq_epi16_mask(__m512i a, __m512i b) {
  const emulated::H32 one(a), other(b);
  __mmask32 found = 0;
  for (int i = 0; i < 32; ++i) found |= static_cast<__mmask32>(one.at[i] == other.at[i]) << i;
  return found;
}
EMULATED __mmask16 _mm512_cmpeq_epi32_mask(__m512i a, __m512i b) {
  const emulated::I16 one(a), other(b);
  unsigned found = 0;
  for (int i = 0; i < 16; ++i) found |= static_cast<unsigned>(one.at[i] == other.at[i]) << i;
  return static_cast<__mmask16>(found);
}
EMULATED __mmask32 _mm512_test_epi16_mask(__m512i a, __m512i b) {
  const emulated::H32 one(a), other(b);
  __mmask32 found = 0;
  for (int i = 0; i < 32; ++i) found |= static_cast<__mmask32>((one.at[i] & other.at[i]) != 0) << i;
  return found;
}
// Those that the mask has, one behind the other, then zeros.
EMULATED __m512i _mm512_maskz_compress_epi16(__mmask32 mask, __m512i told) {
  const emulated::H32 all(told);
  emulated::H32 found;
  int count = 0;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) found.at[count++] = all.at[i];
  return found;
}
EMULATED __m512i _mm512_permutex2var_epi16(__m512i a, __m512i places, __m512i b) {
  const emulated::H32 first(a), second(b), place(places);
  emulated::H32 found;
  for (int i = 0; i < 32; ++i) found.at[i] = (place.at[i] & 32 ? second : first).at[place.at[i] & 31];
  return found;
}

namespace emulated {

// Quarter by quarter: its lower or upper elements of both, in turns.
template <typename Register>
EMULATED Register unpacked(const Register& a, const Register& b, bool upper) {
  constexpr int QUARTER = Register::COUNT / 4, HALF = QUARTER / 2;
  Register found;
  for (int q = 0; q < Register::COUNT; q += QUARTER)
    for (int i = 0; i < HALF; ++i) {
      found.at[q + 2 * i] = a.at[q + upper * HALF + i];
      found.at[q + 2 * i + 1] = b.at[q + upper * HALF + i];
    }
  return found;
}

}  // namespace emulated

EMULATED __m512i _mm512_unpacklo_epi16(__m512i a, __m512i b) {
  return emulated::unpacked(emulated::H32(a), emulated::H32(b), false);
}
EMULATED __m512i _mm512_unpackhi_epi16(__m512i a, __m512i b) {
  return emulated::unpacked(emulated::H32(a), emulated::H32(b), true);
}
EMULATED __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) {
  return emulated::unpacked(emulated::I16(a), emulated::I16(b), false);
}
EMULATED __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) {
  return emulated::unpacked(emulated::I16(a), emulated::I16(b), true);
}
EMULATED __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) {
  return emulated::unpacked(emulated::Q8(a), emulated::Q8(b), false);
}
EMULATED __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) {
  return emulated::unpacked(emulated::Q8(a), emulated::Q8(b), true);
}
// Two quarters of the first, then two of the second, each named by two bits.
EMULATED __m512i _mm512_shuffle_i32x4(__m512i a, __m512i b, int places) {
  const emulated::Q8 first(a), second(b);
  emulated::Q8 found;
  for (int q = 0; q < 4; ++q)
    for (int i = 0; i < 2; ++i) found.at[2 * q + i] = (q < 2 ? first : second).at[2 * (places >> 2 * q & 3) + i];
  return found;
}

#undef EMULATED

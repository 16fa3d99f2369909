// Whether numbers are finite, in one pass over what a step is about to use.
#include "products.h"

extern "C" {

// Of every array of `sizes[i]` numbers, bfloat16 if `narrow[i]`: `found[i]` is 1 if all are finite, else 0.
int all_finite(int64_t count, const int64_t* sizes, const int64_t* narrow, const void* const* arrays, int64_t* found) {
  using namespace funnelcast;
  const __m512i wide = _mm512_set1_epi32(0x7f800000), half = _mm512_set1_epi16(0x7f80);  // exponents
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bad = 0;
    for (int64_t at = 0; narrow[i] && at < sizes[i]; at += 2 * LANES) {
      const bf16* from = static_cast<const bf16*>(arrays[i]) + at;
      const __m512i bits = _mm512_maskz_loadu_epi16(first_of_32(sizes[i] - at), from);
      bad |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(bits, half), half);
    }
    for (int64_t at = 0; !narrow[i] && at < sizes[i]; at += LANES) {
      const float* from = static_cast<const float*>(arrays[i]) + at;
      const __m512i bits = _mm512_maskz_loadu_epi32(first_of_16(sizes[i] - at), from);
      bad |= _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, wide), wide);
    }
    found[i] = bad == 0;
  }
  return 0;
}

}  // extern "C"

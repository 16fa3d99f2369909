// Whether numbers are finite, in one pass over what a step is about to use.
#include "products.h"

extern "C" {

// Of every array of `sizes[i]` numbers: `found[i]` is 1 if all are finite, else 0.
int all_finite(int64_t count, const int64_t* sizes, const float* const* arrays, int64_t* found) {
  using namespace funnelcast;
  const __m512i exponent = _mm512_set1_epi32(0x7f800000);
  for (int64_t i = 0; i < count; ++i) {
    __mmask16 bad = 0;
    for (int64_t at = 0; at < sizes[i]; at += LANES) {
      const __m512i bits = _mm512_maskz_loadu_epi32(first_of_16(sizes[i] - at), arrays[i] + at);
      bad |= _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, exponent), exponent);
    }
    found[i] = bad == 0;
  }
  return 0;
}

}  // extern "C"

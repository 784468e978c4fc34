// Vectors of sixteen lanes for any instruction set: GCC's own vector types, and intrinsics only where they decide.
// Compiled once for each set, in a namespace of its own (MAAS_ISA).
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace MAAS_ISA {

constexpr int LANES = 16;

typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef uint16_t H __attribute__((vector_size(32)));
typedef float FMem __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t IMem __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t HMem __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint8_t BMem __attribute__((vector_size(16), aligned(1), may_alias));

inline F load(const float* p) { return *reinterpret_cast<const FMem*>(p); }
inline I load(const int32_t* p) { return *reinterpret_cast<const IMem*>(p); }
inline void store(float* p, F x) { *reinterpret_cast<FMem*>(p) = x; }
inline void store(int32_t* p, I x) { *reinterpret_cast<IMem*>(p) = x; }
// Past the caches, for whole lines that are read much later; the next locked instruction, as in a barrier, orders it.
inline void store_away(float* p, F x) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)x);
#elif defined(__AVX2__)
  __m256 half[2];
  std::memcpy(half, &x, sizeof half);
  _mm256_stream_ps(p, half[0]), _mm256_stream_ps(p + LANES / 2, half[1]);
#else
  store(p, x);
#endif
}
inline F all(float x) { return x - F{}; }
inline I all(int32_t x) { return x - I{}; }
inline F to_float(I x) { return __builtin_convertvector(x, F); }
inline F max(F a, F b) { return a > b ? a : b; }
inline F min(F a, F b) { return a < b ? a : b; }

// a·b + c rounded once where the machine can: written out, because contraction by the compiler may differ from
// one place to the next, and a row's bits must not.
inline F fma(F a, F b, F c) {
#if defined(__AVX512F__)
  return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  F out;
  for (int half = 0; half < 2; half++) {
    __m256 x, y, z;
    std::memcpy(&x, (char*)&a + 32 * half, 32);
    std::memcpy(&y, (char*)&b + 32 * half, 32);
    std::memcpy(&z, (char*)&c + 32 * half, 32);
    z = _mm256_fmadd_ps(x, y, z);
    std::memcpy((char*)&out + 32 * half, &z, 32);
  }
  return out;
#else
  return a * b + c;
#endif
}

// acc + Σ a[4i..]·w[4i..] in each lane: a unsigned, w signed bytes, exact.
inline I dot4(I acc, I a, I w) {
#if defined(__AVX512VNNI__)
  return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)w);
#elif defined(__AVX2__)
  for (int half = 0; half < 2; half++) {
    __m256i x, y, z;
    std::memcpy(&x, (char*)&a + 32 * half, 32);
    std::memcpy(&y, (char*)&w + 32 * half, 32);
    std::memcpy(&z, (char*)&acc + 32 * half, 32);
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(y, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(y, 8));
    z = _mm256_add_epi32(z, _mm256_add_epi32(even, odd));
    std::memcpy((char*)&acc + 32 * half, &z, 32);
  }
  return acc;
#else
  for (int byte = 0; byte < 4; byte++) {
    I x = (I)(((U)a >> (8 * byte)) & 255u);
    I y = (I)((U)w << (24 - 8 * byte)) >> 24;
    acc += x * y;
  }
  return acc;
#endif
}

// bfloat16: the upper half of a float, rounded to nearest even.
inline F from_bf16(const uint16_t* p) {
  return (F)(__builtin_convertvector(*reinterpret_cast<const HMem*>(p), U) << 16);
}
inline H to_bf16(F x) {
  U bits = (U)x;
  return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, H);
}

// The same four bytes in every lane.
inline I four_bytes(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return all(four);
}

// Each lane gets what the lane `APART` away holds, a power of two.
template <int APART, class V>
inline V swapped(V x) {
  constexpr I lanes = {0 ^ APART, 1 ^ APART, 2 ^ APART,  3 ^ APART,  4 ^ APART,  5 ^ APART,  6 ^ APART,  7 ^ APART,
                       8 ^ APART, 9 ^ APART, 10 ^ APART, 11 ^ APART, 12 ^ APART, 13 ^ APART, 14 ^ APART, 15 ^ APART};
  return __builtin_shuffle(x, lanes);
}
template <class V>
inline auto sum(V x) {
  x += swapped<8>(x), x += swapped<4>(x), x += swapped<2>(x), x += swapped<1>(x);
  return x[0];
}
inline float largest(F x) {
  x = max(x, swapped<8>(x)), x = max(x, swapped<4>(x)), x = max(x, swapped<2>(x)), x = max(x, swapped<1>(x));
  return x[0];
}
inline F absolute(F x) { return (F)((U)x & 0x7fffffffu); }

// Nearest integer, by the trick of adding 1.5·2²³: |x| < 2²².
inline F nearest(F x) {
  constexpr float magic = 12582912.0f;
  return (x + magic) - magic;
}

// e^x: 2^n · e^r with |r| ≤ ln 2 / 2 and a polynomial of degree 6 (Cephes' expf); 0 below -87,
// e^88 above 88, where 2^n would leave its exponent and come out negative or tiny.
inline F exp(F x) {
  F in = min(max(x, all(-87.0f)), all(88.0f));
  F n = nearest(in * 1.44269504088896341f);
  F r = fma(n, all(-0.693359375f), in);
  r = fma(n, all(2.12194440e-4f), r);
  F y = all(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    y = fma(y, r, all(c));
  y = fma(y, r * r, r) + 1.0f;
  F scale = (F)((__builtin_convertvector(n, I) + 127) << 23);
  return x < -87.0f ? F{} : y * scale;
}

}  // namespace MAAS_ISA

#include "checksum.hpp"

#include <immintrin.h>

#include <algorithm>
#include <array>

namespace groupvpn {
namespace {

template <typename Word>
std::uint64_t load_word(const std::uint8_t* octets) noexcept {
  Word word;
  std::memcpy(&word, octets, sizeof word);
  return word;
}

// Words of 32 bits into lanes of 64, which hold the carries of any length that fits into memory.
std::uint64_t sum_portable(const std::uint8_t* octets, std::size_t length, std::uint64_t sum) noexcept {
  std::uint64_t lanes[4] = {};
  for (; length >= 16; octets += 16, length -= 16) {
    for (std::size_t lane = 0; lane < 4; ++lane) lanes[lane] += load_word<std::uint32_t>(octets + 4 * lane);
  }
  return add_short_sum(octets, length, sum + lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

std::uint64_t copy_portable(std::uint8_t* to, const std::uint8_t* from, std::size_t length, std::uint64_t sum) noexcept {
  if (length != 0) std::memcpy(to, from, length);  // the pointers of an empty span may be null
  return sum_portable(to, length, sum);
}

// For functions that only a processor with AVX2 may run, whatever the rest is built for.
#define GROUPVPN_AVX2 __attribute__((target("avx2")))

constexpr std::size_t block_size = 32, words_per_block = 16;

// Blocks that a lane of 32 bits can take: each adds two words, of which neither is larger than 2^15.
constexpr std::size_t blocks_per_lane = 32767;

// What was added to the lanes, as a sum of words: they were taken as signed numbers, 2^15 less than what they are.
GROUPVPN_AVX2 std::uint64_t gather(__m256i lanes, std::size_t blocks) noexcept {
  const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(lanes));
  const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(lanes, 1));
  const __m256i four = _mm256_add_epi64(low, high);
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  const auto total = static_cast<std::uint64_t>(_mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1));
  return total + blocks * words_per_block * 0x8000U;
}

// The words of a block in pairs, each less 2^15.
GROUPVPN_AVX2 inline __m256i pairs_of(__m256i block) noexcept {
  return _mm256_madd_epi16(_mm256_xor_si256(block, _mm256_set1_epi16(static_cast<short>(0x8000))), _mm256_set1_epi16(1));
}

enum class Way : bool { sum, copy };

template <Way way>
GROUPVPN_AVX2 inline __m256i take_block(std::uint8_t* to, const std::uint8_t* from, std::size_t at) noexcept {
  const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at));
  if constexpr (way == Way::copy) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), block);
  return pairs_of(block);
}

// `to` counts only for Way::copy.
template <Way way>
GROUPVPN_AVX2 std::uint64_t walk(std::uint8_t* to, const std::uint8_t* from, std::size_t length, std::uint64_t sum) noexcept {
  while (length >= block_size) {
    const std::size_t blocks = std::min(length / block_size, blocks_per_lane);
    const std::size_t end = blocks * block_size;
    __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
    std::size_t at = 0;
    for (; at + 4 * block_size <= end; at += 4 * block_size) {
      even = _mm256_add_epi32(even, take_block<way>(to, from, at));
      odd = _mm256_add_epi32(odd, take_block<way>(to, from, at + block_size));
      even = _mm256_add_epi32(even, take_block<way>(to, from, at + 2 * block_size));
      odd = _mm256_add_epi32(odd, take_block<way>(to, from, at + 3 * block_size));
    }
    for (; at < end; at += block_size) even = _mm256_add_epi32(even, take_block<way>(to, from, at));
    sum += gather(_mm256_add_epi32(even, odd), blocks);
    from += end;
    if constexpr (way == Way::copy) to += end;
    length -= end;
  }
  if constexpr (way == Way::copy) {
    if (length != 0) std::memcpy(to, from, length);
  }
  return add_short_sum(from, length, sum);
}

GROUPVPN_AVX2 std::uint64_t sum_avx2(const std::uint8_t* octets, std::size_t length, std::uint64_t sum) noexcept {
  return walk<Way::sum>(nullptr, octets, length, sum);
}

GROUPVPN_AVX2 std::uint64_t copy_avx2(std::uint8_t* to, const std::uint8_t* from, std::size_t length, std::uint64_t sum) noexcept {
  return walk<Way::copy>(to, from, length, sum);
}

constexpr std::array<SumCode, 2> all_codes = {{
    {"portable", sum_portable, copy_portable},
    {"AVX2", sum_avx2, copy_avx2},
}};

}  // namespace

std::span<const SumCode> sum_codes() noexcept { return std::span(all_codes).first(__builtin_cpu_supports("avx2") ? 2 : 1); }

const SumCode best_sum_code = sum_codes().back();

}  // namespace groupvpn

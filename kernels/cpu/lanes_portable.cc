// Lanes in vectors of four words, which every target has (SSE2, NEON) or the compiler splits.
#include "kernels/core/md5.h"
#include "kernels/cpu/lanes.h"

namespace holdfast::kernels {
namespace {

static_assert(std::endian::native == std::endian::little, "the CPU shells are little-endian");

typedef uint32_t Quad __attribute__((vector_size(16)));

// Eight lanes in two vectors: one vector alone would still wait on its own last result.
struct Eight {
  static constexpr int kLanes = 8;
  Quad a, b;

  static Eight Load(const uint32_t* words) {
    Eight x;
    std::memcpy(&x, words, sizeof x);
    return x;
  }
  void Store(uint32_t* words) const { std::memcpy(words, this, sizeof *this); }

  template <bool big_endian>
  static void LoadBlock(const uint8_t* const* data, Eight* block) {
    static_assert(!big_endian, "no big-endian digest gains from these lanes");
    for (int word = 0; word < 16; word += 4) {
      Quad rows[4];
      Transpose(data, word, rows);
      for (int i = 0; i < 4; ++i) block[word + i].a = rows[i];
      Transpose(data + 4, word, rows);
      for (int i = 0; i < 4; ++i) block[word + i].b = rows[i];
    }
  }

  // Words word … word + 3 of four messages, as one vector for each word.
  static void Transpose(const uint8_t* const* data, int word, Quad out[4]) {
    Quad m[4];
    for (int i = 0; i < 4; ++i) std::memcpy(&m[i], data[i] + 4 * word, sizeof m[i]);
    const Quad low01 = __builtin_shufflevector(m[0], m[1], 0, 4, 1, 5);
    const Quad low23 = __builtin_shufflevector(m[2], m[3], 0, 4, 1, 5);
    const Quad high01 = __builtin_shufflevector(m[0], m[1], 2, 6, 3, 7);
    const Quad high23 = __builtin_shufflevector(m[2], m[3], 2, 6, 3, 7);
    out[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    out[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
  }

  friend Eight operator+(const Eight& x, const Eight& y) { return {x.a + y.a, x.b + y.b}; }
  friend Eight operator+(const Eight& x, uint32_t y) { return {x.a + y, x.b + y}; }
  friend Eight operator&(const Eight& x, const Eight& y) { return {x.a & y.a, x.b & y.b}; }
  friend Eight operator|(const Eight& x, const Eight& y) { return {x.a | y.a, x.b | y.b}; }
  friend Eight operator^(const Eight& x, const Eight& y) { return {x.a ^ y.a, x.b ^ y.b}; }
  friend Eight operator~(const Eight& x) { return {~x.a, ~x.b}; }
  friend Eight operator<<(const Eight& x, int n) { return {x.a << n, x.b << n}; }
  friend Eight operator>>(const Eight& x, int n) { return {x.a >> n, x.b >> n}; }
};

struct Md5 {
  static constexpr int kStateWords = core::md5::kStateWords;
  static constexpr bool kBigEndian = core::md5::kBigEndian;
  // How many streams of one length single-stream code ends in the time of one step of all lanes.
  // Measured on a Zen 3: OpenSSL 0.66 GB/s, eight lanes together 1.8 to 2.5.
  static constexpr double kSinglesPerLane = 2.5;

  template <class W>
  static void Compress(W* state, const W* block) {
    core::md5::Compress<W>(state, block);
  }
};

}  // namespace

void Md5InPortableLanes(std::span<const LaneJob> jobs, StreamCode::BlockFunction single) {
  LaneRunner<Md5, Eight>(jobs, single).Run();
}

}  // namespace holdfast::kernels

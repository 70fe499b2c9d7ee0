// Little-endian fixed-width integers and length-prefixed byte strings: the whole vocabulary of
// the formats under common/format. A Reader never reads past its end; it turns bad instead, and
// stays bad, so that a parser checks once at the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/base/bytes.h"
#include "common/base/ids.h"

namespace holdfast {

class Writer {
 public:
  explicit Writer(Buffer& out) : out_(out) {}
  template <class T>
  requires std::is_integral_v<T>
  void Fixed(T v) {
    auto u = static_cast<std::make_unsigned_t<T>>(v);
    for (size_t i = 0; i < sizeof(T); ++i) out_.push_back(static_cast<uint8_t>(u >> (8 * i)));
  }
  void U8(uint8_t v) { Fixed(v); }
  void U16(uint16_t v) { Fixed(v); }
  void U32(uint32_t v) { Fixed(v); }
  void U64(uint64_t v) { Fixed(v); }
  void I64(int64_t v) { Fixed(v); }
  void Raw(Bytes b) { out_.insert(out_.end(), b.begin(), b.end()); }
  // A u32 length, then the bytes.
  void Blob(Bytes b) {
    U32(static_cast<uint32_t>(b.size()));
    Raw(b);
  }
  void Blob(std::string_view s) { Blob(AsBytes(s)); }
  template <class Tag, size_t N>
  void Id(const FixedId<Tag, N>& id) {
    Raw(id.bytes());
  }
  size_t size() const { return out_.size(); }

 private:
  Buffer& out_;
};

class Reader {
 public:
  explicit Reader(Bytes in) : in_(in) {}
  template <class T>
  requires std::is_integral_v<T> T Fixed() {
    std::make_unsigned_t<T> u = 0;
    Bytes b = Raw(sizeof(T));
    for (size_t i = 0; i < b.size(); ++i)
      u |= static_cast<std::make_unsigned_t<T>>(b[i]) << (8 * i);
    return static_cast<T>(u);
  }
  uint8_t U8() { return Fixed<uint8_t>(); }
  uint16_t U16() { return Fixed<uint16_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  int64_t I64() { return Fixed<int64_t>(); }
  // Empty, and the reader bad, when fewer than n bytes are left.
  Bytes Raw(size_t n) {
    if (!ok_ || n > in_.size()) {
      ok_ = false;
      return {};
    }
    Bytes b = in_.first(n);
    in_ = in_.subspan(n);
    return b;
  }
  Bytes Blob() { return Raw(U32()); }
  std::string String() { return ToString(Blob()); }
  template <class IdType>
  IdType Id() {
    return IdType::FromBytes(Raw(IdType::kSize));
  }
  bool ok() const { return ok_; }
  // Everything read, and nothing missing.
  bool done() const { return ok_ && in_.empty(); }
  Bytes rest() const { return in_; }

 private:
  Bytes in_;
  bool ok_ = true;
};

}  // namespace holdfast

// A small JSON file that people may read and that no flipped byte gets past: its last member is
//   "checksum": "<SHA-256, in hex, of every byte of the file before this member>"
// and what follows it is fixed. Used by the vault file and the key file; a later version of either
// keeps this envelope, with "format" and "version" first, so that it can be refused by name.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/status.h"

namespace holdfast {

using Json = nlohmann::ordered_json;

// Every string in `body` is valid UTF-8; `body` is an object with at least one member.
std::string EncodeCheckedJson(const Json& body);

// kDataLoss when a byte is wrong or missing; kFailedPrecondition, naming it, when the version is
// not `version`. `what` names the file in messages.
StatusOr<Json> DecodeCheckedJson(std::string_view text, std::string_view format, int version,
                                 std::string_view what);

// Members of a JSON object. One that is missing or of another type turns the reader bad, and it
// stays bad, so that a parser checks once at the end.
class JsonReader {
 public:
  explicit JsonReader(const Json& object) : object_(object), ok_(object.is_object()) {}
  bool has(const char* name) const { return object_.is_object() && object_.contains(name); }
  std::string String(const char* name);
  uint64_t Unsigned(const char* name);
  int64_t Signed(const char* name);
  Buffer Base64(const char* name);
  // Exactly out.size() bytes in hex, or in base64.
  void Hex(const char* name, MutableBytes out);
  void Base64(const char* name, MutableBytes out);
  // The member itself; null when it is not there.
  const Json& Member(const char* name);
  bool ok() const { return ok_; }

 private:
  const Json& object_;
  bool ok_;
};

std::string ToBase64(Bytes bytes);
// False when `text` is not base64.
bool FromBase64(std::string_view text, Buffer& out);

}  // namespace holdfast

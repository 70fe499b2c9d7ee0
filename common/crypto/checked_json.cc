#include "common/crypto/checked_json.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "common/crypto/hmac.h"

namespace holdfast {
namespace {

// What closes a file whose bytes so far are `head`.
std::string Tail(std::string_view head) {
  return "  \"checksum\": \"" + ToHex(Sha256(AsBytes(head))) + "\"\n}\n";
}

const Json kNull;

// No file of ours nests deeper. What does would take as deep a stack wherever it is copied.
constexpr int kMaxDepth = 8;

// Discarded when it is no JSON, or too deep.
Json Parse(std::string_view text) {
  bool deep = false;
  Json body = Json::parse(
      text,
      [&](int depth, Json::parse_event_t, Json&) {
        deep |= depth > kMaxDepth;
        return !deep;
      },
      /*allow_exceptions=*/false);
  return deep ? Json(Json::value_t::discarded) : body;
}

}  // namespace

std::string EncodeCheckedJson(const Json& body) {
  std::string text = body.dump(2);
  text.resize(text.size() - std::string_view("\n}").size());
  text += ",\n";
  return text + Tail(text);
}

StatusOr<Json> DecodeCheckedJson(std::string_view text, std::string_view format, int version,
                                 std::string_view what) {
  const size_t tail_size = Tail("").size();
  if (text.size() < tail_size ||
      text.substr(text.size() - tail_size) != Tail(text.substr(0, text.size() - tail_size))) {
    return absl::DataLossError(std::string(what) + " is damaged: its checksum does not match");
  }
  Json body = Parse(text);
  JsonReader reader(body);
  if (reader.String("format") != format) {
    return absl::DataLossError(std::string(what) + " is not a " + std::string(format));
  }
  const uint64_t found = reader.Unsigned("version");
  if (!reader.ok()) return absl::DataLossError(std::string(what) + " has no version");
  if (found != static_cast<uint64_t>(version)) {
    return absl::FailedPreconditionError(
        std::string(what) + ": " + std::string(format) + " version " + std::to_string(found) +
        " is not known to this release (knows " + std::to_string(version) + ")");
  }
  return body;
}

const Json& JsonReader::Member(const char* name) {
  if (ok_) {
    const auto it = object_.find(name);
    if (it != object_.end()) return *it;
  }
  ok_ = false;
  return kNull;
}

std::string JsonReader::String(const char* name) {
  const Json& member = Member(name);
  if (!member.is_string()) {
    ok_ = false;
    return {};
  }
  return member.get<std::string>();
}

uint64_t JsonReader::Unsigned(const char* name) {
  const Json& member = Member(name);
  if (!member.is_number_unsigned()) {
    ok_ = false;
    return 0;
  }
  return member.get<uint64_t>();
}

int64_t JsonReader::Signed(const char* name) {
  const Json& member = Member(name);
  if (!member.is_number_integer()) {
    ok_ = false;
    return 0;
  }
  return member.get<int64_t>();
}

Buffer JsonReader::Base64(const char* name) {
  Buffer bytes;
  if (!FromBase64(String(name), bytes)) ok_ = false;
  return bytes;
}

void JsonReader::Hex(const char* name, MutableBytes out) {
  if (!FromHex(String(name), out)) ok_ = false;
}

void JsonReader::Base64(const char* name, MutableBytes out) {
  const Buffer bytes = Base64(name);
  if (bytes.size() != out.size()) {
    ok_ = false;
    return;
  }
  std::copy(bytes.begin(), bytes.end(), out.begin());
}

std::string ToBase64(Bytes bytes) {
  std::string text;
  absl::Base64Escape(absl::string_view(AsView(bytes).data(), bytes.size()), &text);
  return text;
}

bool FromBase64(std::string_view text, Buffer& out) {
  std::string bytes;
  if (!absl::Base64Unescape(absl::string_view(text.data(), text.size()), &bytes)) return false;
  out.assign(bytes.begin(), bytes.end());
  return true;
}

}  // namespace holdfast

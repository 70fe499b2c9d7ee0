#include "common/format/vault_file.h"

#include <bit>

#include "common/crypto/checked_json.h"
#include "common/crypto/hmac.h"
#include "common/format/segment_format.h"

namespace holdfast {
namespace {

constexpr char kFormat[] = "holdfast vault";
constexpr int kVersion = 1;
constexpr uint32_t kMinChunkSize = 64 * 1024;
constexpr uint32_t kMaxChunkSize = 4 * 1024 * 1024;
// A chunk is at most 4 * avg, and its seal adds less than 1 %: the record must hold it.
static_assert(uint64_t{kMaxChunkSize} * 4 * 101 / 100 < kMaxPayload);

std::string PathOf(const std::string& dir) { return dir + "/vault"; }

// Bytes that are not UTF-8 are the only ones that these two ways of writing treat differently.
bool IsUtf8(const std::string& text) {
  const Json json = text;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) ==
         json.dump(-1, ' ', false, Json::error_handler_t::ignore);
}

Json NodeToJson(const VaultNode& node) {
  Json json;
  json["id"] = node.id.hex();
  if (IsUtf8(node.path)) {
    json["path"] = node.path;
  } else {
    json["path_b64"] = ToBase64(AsBytes(node.path));
  }
  return json;
}

bool NodeFromJson(const Json& json, VaultNode& node) {
  JsonReader reader(json);
  reader.Hex("id", node.id.value);
  node.path = reader.has("path_b64") ? ToString(reader.Base64("path_b64")) : reader.String("path");
  return reader.ok() && !node.path.empty();
}

bool ChunkSizeIsValid(uint64_t size) {
  return std::has_single_bit(size) && size >= kMinChunkSize && size <= kMaxChunkSize;
}

bool FromJson(const Json& json, VaultFile& vault) {
  JsonReader reader(json);
  reader.Hex("vault", vault.vault.value);
  reader.Hex("domain", vault.domain.value);
  const uint64_t chunk_size = reader.Unsigned("chunk_size");
  const uint64_t replicas = reader.Unsigned("replicas");
  vault.created_nanos = reader.Signed("created_nanos");
  vault.key_check = reader.Base64("key_check");
  const Json& nodes = reader.Member("nodes");
  if (!reader.ok() || !nodes.is_array() || !ChunkSizeIsValid(chunk_size) || replicas == 0 ||
      replicas > UINT32_MAX) {
    return false;
  }
  vault.chunk_size = static_cast<uint32_t>(chunk_size);
  vault.replicas = static_cast<uint32_t>(replicas);
  for (const Json& node : nodes) {
    if (!NodeFromJson(node, vault.nodes.emplace_back())) return false;
  }
  return true;
}

}  // namespace

StatusOr<VaultFile> ReadVaultFile(Fs& fs, const std::string& dir) {
  StatusOr<Buffer> bytes = ReadFile(fs, PathOf(dir));
  if (absl::IsNotFound(bytes.status())) {
    return absl::NotFoundError("no vault in " + dir + " (make one: holdfast init " + dir + ")");
  }
  RETURN_IF_ERROR(bytes.status());
  const std::string what = "vault file " + PathOf(dir);
  ASSIGN_OR_RETURN(const Json json, DecodeCheckedJson(AsView(*bytes), kFormat, kVersion, what));
  VaultFile vault;
  if (!FromJson(json, vault)) return absl::DataLossError(what + " is malformed");
  return vault;
}

Status WriteVaultFile(Fs& fs, const std::string& dir, const VaultFile& vault) {
  if (!ChunkSizeIsValid(vault.chunk_size) || vault.replicas == 0) {
    return absl::InvalidArgumentError(
        "the chunk size must be a power of two from 64 KiB to 4 MiB, and replicas at least 1");
  }
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["vault"] = vault.vault.hex();
  json["domain"] = vault.domain.hex();
  json["chunk_size"] = vault.chunk_size;
  json["replicas"] = vault.replicas;
  json["created_nanos"] = vault.created_nanos;
  json["key_check"] = ToBase64(vault.key_check);
  json["nodes"] = Json::array();
  for (const VaultNode& node : vault.nodes) json["nodes"].push_back(NodeToJson(node));
  return WriteFileAtomically(fs, PathOf(dir), AsBytes(EncodeCheckedJson(json)));
}

Buffer MakeKeyCheck(const std::array<uint8_t, 32>& catalogue_key, const VaultId& vault) {
  const Hash256 mac = HmacSha256(catalogue_key, {AsBytes("holdfast/1 key check"), vault.bytes()});
  return Buffer(mac.begin(), mac.begin() + 16);
}

bool CheckKey(const VaultFile& vault, const std::array<uint8_t, 32>& catalogue_key) {
  return ConstantTimeEqual(vault.key_check, MakeKeyCheck(catalogue_key, vault.vault));
}

}  // namespace holdfast

#include "common/crypto/key_file.h"

#include <algorithm>

#include "common/base/coding.h"
#include "common/crypto/aead.h"
#include "common/crypto/checked_json.h"
#include "common/crypto/domain_keys.h"
#include "common/crypto/evp.h"
#include "common/crypto/hmac.h"
#include "common/crypto/kdf.h"

namespace holdfast {
namespace {

constexpr char kFormat[] = "holdfast key file";
constexpr int kVersion = 1;
// The only derivation of version 1. It stands in the file for people and other tools; another
// value is refused, so that a forged file cannot make a reader spend memory.
constexpr char kKdfName[] = "scrypt n=65536 r=8 p=1";
constexpr ScryptCost kCost{1u << 16, 8, 1};
constexpr size_t kSaltSize = 32;
constexpr char kRoleFull[] = "full";
constexpr char kRoleIngest[] = "ingest-only";
constexpr char kRoleReader[] = "reader";
constexpr char kRoleCluster[] = "cluster-only";

Buffer CertificateMessage(const DomainId& domain, const PublicKey& signer) {
  Buffer message;
  Writer writer(message);
  writer.Raw(AsBytes("holdfast/1 ingest key"));
  writer.Id(domain);
  writer.Raw(signer);
  return message;
}

Status Certify(KeyFile& key) {
  const KeyPair root{key.root_public_key, *key.root_private_key};
  ASSIGN_OR_RETURN(key.certificate,
                   Sign(root, CertificateMessage(key.domain, key.signing_key.public_key)));
  return absl::OkStatus();
}

// What it is called by what is in it; nothing where that is not enough for any role.
const char* RoleOf(const KeyFile& key) {
  if (key.root_private_key) return key.can_read() && key.can_ingest() ? kRoleFull : "";
  if (key.can_read()) return kRoleReader;
  return key.can_ingest() ? kRoleIngest : kRoleCluster;
}

bool HoldsDomainKeys(const KeyFile& key) { return key.can_read() || key.can_ingest(); }

void ClusterToJson(const ClusterIdentity& cluster, Json& keys) {
  keys["curve_public_key"] = ToBase64(cluster.public_key.value);
  keys["curve_secret_key"] = ToBase64(cluster.secret_key);
  keys["coordinator_public_key"] = ToBase64(cluster.coordinator.value);
}

void ClusterFromJson(JsonReader& reader, std::optional<ClusterIdentity>& cluster) {
  if (!reader.has("curve_public_key")) return;
  cluster.emplace();
  reader.Base64("curve_public_key", cluster->public_key.value);
  reader.Base64("curve_secret_key", cluster->secret_key);
  reader.Base64("coordinator_public_key", cluster->coordinator.value);
}

// Everything but the names of vault and domain.
Json KeysToJson(const KeyFile& key) {
  Json keys;
  if (key.catalogue_key != std::array<uint8_t, 32>{}) {
    keys["catalogue_key"] = ToBase64(key.catalogue_key);
  }
  if (key.cluster) ClusterToJson(*key.cluster, keys);
  if (!HoldsDomainKeys(key)) return keys;
  keys["k_dedup"] = ToBase64(key.k_dedup);
  keys["domain_public_key"] = ToBase64(key.domain_public_key);
  if (key.domain_private_key) keys["domain_private_key"] = ToBase64(*key.domain_private_key);
  keys["root_public_key"] = ToBase64(key.root_public_key);
  if (key.root_private_key) keys["root_private_key"] = ToBase64(*key.root_private_key);
  if (!key.can_ingest()) return keys;
  keys["signing_public_key"] = ToBase64(key.signing_key.public_key);
  keys["signing_private_key"] = ToBase64(key.signing_key.private_key);
  keys["certificate"] = ToBase64(key.certificate);
  return keys;
}

bool KeysFromJson(const Json& json, KeyFile& key) {
  JsonReader reader(json);
  if (reader.has("catalogue_key")) reader.Base64("catalogue_key", key.catalogue_key);
  ClusterFromJson(reader, key.cluster);
  if (!reader.has("k_dedup")) return reader.ok() && key.cluster.has_value();
  reader.Base64("k_dedup", key.k_dedup);
  reader.Base64("domain_public_key", key.domain_public_key);
  reader.Base64("root_public_key", key.root_public_key);
  if (reader.has("signing_private_key")) {
    reader.Base64("signing_public_key", key.signing_key.public_key);
    reader.Base64("signing_private_key", key.signing_key.private_key);
    key.certificate = reader.Base64("certificate");
  }
  if (reader.has("domain_private_key")) {
    reader.Base64("domain_private_key", key.domain_private_key.emplace());
  }
  if (reader.has("root_private_key")) {
    reader.Base64("root_private_key", key.root_private_key.emplace());
  }
  const bool zero = key.k_dedup == std::array<uint8_t, 32>{};  // A key of zeros is none.
  return reader.ok() && !zero && HoldsDomainKeys(key);
}

// A file that is whole but does not fit together (edited, or put together by hand) is refused
// before anything is sealed or signed with it.
Status CheckConsistent(const KeyFile& key, std::string_view role, const std::string& path) {
  if (role == kRoleCluster && !HoldsDomainKeys(key)) return absl::OkStatus();
  const bool signer =
      !key.can_ingest() || (KeyPairMatches(key.signing_key) &&
                            CheckCertificate(key, key.signing_key.public_key, key.certificate));
  const bool pairs =
      (!key.domain_private_key ||
       KeyPairMatches({key.domain_public_key, *key.domain_private_key})) &&
      (!key.root_private_key || KeyPairMatches({key.root_public_key, *key.root_private_key}));
  if (!signer || !pairs || role != RoleOf(key)) {
    return absl::DataLossError("key file " + path + " holds keys that do not belong together");
  }
  return absl::OkStatus();
}

// What the wrapping is bound to: which file this is, as far as it stands in clear.
Buffer WrapAad(const KeyFile& key, std::string_view role) {
  Buffer aad;
  Writer writer(aad);
  writer.Raw(AsBytes("holdfast/1 key file"));
  writer.U8(kSuite1);
  writer.Id(key.vault);
  writer.Id(key.domain);
  writer.Raw(AsBytes(role));
  return aad;
}

Status NoMemoryForScrypt() {
  return absl::ResourceExhaustedError(
      "there is not enough memory for the passphrase (64 MiB are needed)");
}

StatusOr<Json> Wrap(const KeyFile& key, std::string keys, const std::string& passphrase, Rng& rng) {
  Cleanser cleanse_keys({reinterpret_cast<uint8_t*>(keys.data()), keys.size()});
  std::array<uint8_t, kSaltSize> salt;
  AeadNonce nonce;
  rng.Fill(salt);
  rng.Fill(nonce);
  AeadKey wrapping;
  Cleanser cleanse_wrapping(wrapping);
  if (!Scrypt(passphrase, salt, kCost, wrapping)) return NoMemoryForScrypt();
  Json wrapped;
  wrapped["kdf"] = kKdfName;
  wrapped["salt"] = ToBase64(salt);
  wrapped["box"] =
      ToBase64(AeadSealWithNonce(wrapping, nonce, WrapAad(key, RoleOf(key)), AsBytes(keys)));
  return wrapped;
}

StatusOr<Json> Unwrap(const Json& wrapped, Bytes aad, const std::string& passphrase,
                      const std::string& path) {
  JsonReader reader(wrapped);
  const std::string kdf = reader.String("kdf");
  const Buffer salt = reader.Base64("salt");
  const Buffer box = reader.Base64("box");
  if (!reader.ok() || salt.size() != kSaltSize) {
    return absl::DataLossError("key file " + path + " is malformed");
  }
  if (kdf != kKdfName) {
    return absl::FailedPreconditionError("key file " + path + ": key derivation \"" + kdf +
                                         "\" is not known to this release (knows \"" + kKdfName +
                                         "\")");
  }
  AeadKey wrapping;
  Cleanser cleanse_wrapping(wrapping);
  if (!Scrypt(passphrase, salt, kCost, wrapping)) return NoMemoryForScrypt();
  StatusOr<Buffer> keys = AeadOpenWithNonce(wrapping, aad, box, "key file");
  if (!keys.ok()) {
    return absl::PermissionDeniedError("the passphrase does not open key file " + path);
  }
  Cleanser cleanse_keys(*keys);
  return Json::parse(AsView(*keys), nullptr, /*allow_exceptions=*/false);
}

StatusOr<Json> ReadEnvelope(Fs& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const Buffer bytes, ReadFile(fs, path));
  return DecodeCheckedJson(AsView(bytes), kFormat, kVersion, "key file " + path);
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Exclusive, so that no key is ever overwritten; a half-written file is taken away again.
Status WriteNewFile(Fs& fs, const std::string& path, Bytes data) {
  ASSIGN_OR_RETURN(auto file, fs.Open(path, {.write = true, .create = true, .exclusive = true}));
  Status status = file->WriteAt(0, data);
  if (status.ok()) status = file->DataSync();
  if (status.ok()) status = fs.SyncDir(DirectoryOf(path));
  if (!status.ok()) fs.Remove(path).IgnoreError();
  return status;
}

}  // namespace

WriterId KeyFile::writer() const {
  return WriterId::FromBytes(Bytes(Sha256(signing_key.public_key)).first(WriterId::kSize));
}

StatusOr<KeyFile> GenerateKeyFile(Rng& rng, const VaultId& vault) {
  KeyFile key;
  key.vault = vault;
  key.domain = rng.NewId<DomainId>();
  rng.Fill(key.catalogue_key);
  rng.Fill(key.k_dedup);
  const KeyPair domain = GenerateKeyPair();
  key.domain_public_key = domain.public_key;
  key.domain_private_key = domain.private_key;
  const KeyPair root = GenerateKeyPair();
  key.root_public_key = root.public_key;
  key.root_private_key = root.private_key;
  key.signing_key = GenerateKeyPair();
  RETURN_IF_ERROR(Certify(key));
  return key;
}

StatusOr<KeyFile> MakeIngestOnly(const KeyFile& full) {
  if (!full.can_read() || !full.root_private_key) {
    return absl::PermissionDeniedError(
        "this key cannot make one that ingests; use the vault's full key file");
  }
  KeyFile key = full;
  key.signing_key = GenerateKeyPair();
  RETURN_IF_ERROR(Certify(key));
  key.domain_private_key.reset();
  key.root_private_key.reset();
  return key;
}

StatusOr<KeyFile> MakeReader(const KeyFile& key, bool ingests) {
  if (!key.can_read()) {
    return absl::PermissionDeniedError("a key file that cannot read makes no reader");
  }
  KeyFile reader = key;
  reader.signing_key = {};
  reader.certificate.clear();
  if (ingests) {
    ASSIGN_OR_RETURN(reader, MakeIngestOnly(key));
    reader.domain_private_key = key.domain_private_key;
  }
  reader.root_private_key.reset();
  return reader;
}

KeyFile MakeClusterOnly(const KeyFile& key) {
  KeyFile bare;
  bare.vault = key.vault;
  bare.domain = key.domain;
  bare.cluster = key.cluster;
  return bare;
}

bool CheckCertificate(const KeyFile& key, const PublicKey& signer, Bytes certificate) {
  return VerifySignature(key.root_public_key, CertificateMessage(key.domain, signer), certificate);
}

Status WriteKeyFile(Fs& fs, const std::string& path, const KeyFile& key,
                    const std::optional<std::string>& passphrase, Rng& rng) {
  Json body;
  body["format"] = kFormat;
  body["version"] = kVersion;
  body["suite"] = kSuite1;
  body["vault"] = key.vault.hex();
  body["domain"] = key.domain.hex();
  body["role"] = RoleOf(key);
  if (passphrase) {
    ASSIGN_OR_RETURN(body["wrapped"], Wrap(key, KeysToJson(key).dump(), *passphrase, rng));
  } else {
    body["keys"] = KeysToJson(key);
  }
  std::string text = EncodeCheckedJson(body);
  Cleanser cleanse({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return WriteNewFile(fs, path, AsBytes(text));
}

StatusOr<KeyFile> ReadKeyFile(Fs& fs, const std::string& path,
                              const std::optional<std::string>& passphrase) {
  ASSIGN_OR_RETURN(const Json body, ReadEnvelope(fs, path));
  JsonReader reader(body);
  KeyFile key;
  const uint64_t suite = reader.Unsigned("suite");
  reader.Hex("vault", key.vault.value);
  reader.Hex("domain", key.domain.value);
  const std::string role = reader.String("role");
  const Status malformed = absl::DataLossError("key file " + path + " is malformed");
  if (!reader.ok()) return malformed;
  if (suite != kSuite1) {
    return absl::FailedPreconditionError("key file " + path + ": suite " + std::to_string(suite) +
                                         " is not known to this release (knows 1)");
  }
  Json keys;
  if (!reader.has("wrapped")) {
    keys = reader.Member("keys");
  } else if (!passphrase) {
    return absl::PermissionDeniedError("key file " + path + " needs its passphrase");
  } else {
    ASSIGN_OR_RETURN(keys, Unwrap(reader.Member("wrapped"), WrapAad(key, role), *passphrase, path));
  }
  if (!KeysFromJson(keys, key)) return malformed;
  RETURN_IF_ERROR(CheckConsistent(key, role, path));
  return key;
}

StatusOr<bool> KeyFileNeedsPassphrase(Fs& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const Json body, ReadEnvelope(fs, path));
  return body.contains("wrapped");
}

}  // namespace holdfast

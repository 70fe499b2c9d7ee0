#include "common/format/catalogue_format.h"

#include <algorithm>

#include "common/base/coding.h"
#include "common/crypto/check.h"

namespace holdfast {
namespace {

constexpr uint8_t kRowVersion = 1;
constexpr uint8_t kRemovedObjectVersion = 2;  // Of an object row that says when it was removed.
constexpr uint8_t kCommitVersion = 1;
constexpr std::string_view kCommitMagic = "HFCommit";

// A name inside a key: 00 becomes 00 FF, and 00 01 ends it. So no name is another's prefix with
// its end, and keys sort as names do, byte by byte.
constexpr char kEscape = '\x00', kEscapedZero = '\xff', kEndOfName = '\x01';

void AppendEscaped(std::string& key, std::string_view name) {
  for (const char c : name) {
    key.push_back(c);
    if (c == kEscape) key.push_back(kEscapedZero);
  }
}

void AppendBe64(std::string& key, uint64_t v) {
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(v >> shift));
}

uint64_t ReadBe64(std::string_view bytes) {
  uint64_t v = 0;
  for (size_t i = 0; i < 8; ++i) v = v << 8 | static_cast<uint8_t>(bytes[i]);
  return v;
}

std::string KeyOf(RowKind kind, std::string_view rest) {
  std::string key(1, static_cast<char>(kind));
  key += rest;
  return key;
}

std::string NumberKey(RowKind kind, uint64_t number) {
  std::string key(1, static_cast<char>(kind));
  AppendBe64(key, number);
  return key;
}

// The smallest string above every string that starts with `prefix`.
std::string AfterPrefix(std::string prefix) {
  while (static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  ++prefix.back();
  return prefix;
}

Buffer BeginRow(uint8_t version = kRowVersion) {
  Buffer row;
  Writer(row).U8(version);
  return row;
}

std::string Finish(const Buffer& row) { return ToString(row); }

StatusOr<Reader> OpenRow(std::string_view bytes, std::string_view what,
                         uint8_t newest = kRowVersion) {
  Reader reader(AsBytes(bytes));
  const uint8_t version = reader.U8();
  if (!reader.ok()) return Damaged(what, "it is empty");
  if (version < kRowVersion || version > newest) return UnknownVersion(what, version, newest);
  return reader;
}

Status Malformed(std::string_view what) { return Damaged(what, "it is malformed"); }

Buffer ToBuffer(Bytes bytes) { return Buffer(bytes.begin(), bytes.end()); }

Hash256 ReadHash(Reader& reader) {
  Hash256 hash{};
  const Bytes bytes = reader.Raw(hash.size());
  std::copy(bytes.begin(), bytes.end(), hash.begin());
  return hash;
}

}  // namespace

std::string CollectionKey(std::string_view name) { return KeyOf(RowKind::kCollection, name); }

std::string ObjectPrefixBegin(uint64_t collection, std::string_view prefix) {
  std::string key = NumberKey(RowKind::kObject, collection);
  AppendEscaped(key, prefix);
  return key;
}

std::string ObjectPrefixEnd(uint64_t collection, std::string_view prefix) {
  return AfterPrefix(ObjectPrefixBegin(collection, prefix));
}

std::string ObjectNameBegin(uint64_t collection, std::string_view name) {
  std::string key = ObjectPrefixBegin(collection, name);
  key.push_back(kEscape);
  key.push_back(kEndOfName);
  return key;
}

std::string ObjectNameEnd(uint64_t collection, std::string_view name) {
  return AfterPrefix(ObjectNameBegin(collection, name));
}

std::string ObjectKey(uint64_t collection, std::string_view name, uint64_t version_number) {
  std::string key = ObjectNameBegin(collection, name);
  AppendBe64(key, ~version_number);
  return key;
}

StatusOr<ParsedObjectKey> ParseObjectKey(std::string_view key) {
  const Status malformed = Malformed("object key");
  if (key.size() < 1 + 8 || key[0] != static_cast<char>(RowKind::kObject)) return malformed;
  ParsedObjectKey parsed;
  parsed.collection = ReadBe64(key.substr(1));
  key.remove_prefix(1 + 8);
  for (;;) {
    const size_t zero = key.find(kEscape);
    if (zero == std::string_view::npos || zero + 1 >= key.size()) return malformed;
    parsed.name += key.substr(0, zero);
    const char mark = key[zero + 1];
    key.remove_prefix(zero + 2);
    if (mark == kEndOfName) break;
    if (mark != kEscapedZero) return malformed;
    parsed.name.push_back('\0');
  }
  if (key.size() != 8) return malformed;
  parsed.version_number = ~ReadBe64(key);
  return parsed;
}

std::string RemovedKey(int64_t removed_nanos, std::string_view object_key) {
  std::string key = NumberKey(RowKind::kRemoved, static_cast<uint64_t>(removed_nanos));
  key += object_key;
  return key;
}

StatusOr<ParsedRemovedKey> ParseRemovedKey(std::string_view key) {
  if (key.size() < 1 + 8 || key[0] != static_cast<char>(RowKind::kRemoved)) {
    return Malformed("key of what was removed");
  }
  ParsedRemovedKey parsed;
  parsed.removed_nanos = static_cast<int64_t>(ReadBe64(key.substr(1)));
  parsed.object_key = key.substr(1 + 8);
  RETURN_IF_ERROR(ParseObjectKey(parsed.object_key).status());
  return parsed;
}

std::string SessionKey(const SessionId& id) { return KeyOf(RowKind::kSession, AsView(id.bytes())); }
std::string SealingKeyKey(const SealingKeyId& id) {
  return KeyOf(RowKind::kSealingKey, AsView(id.bytes()));
}
std::string SignatureKey(uint64_t number) { return NumberKey(RowKind::kSignature, number); }
std::string MapKey() { return std::string(1, static_cast<char>(RowKind::kMap)); }

std::string PrincipalKey(const CurvePublicKey& key) {
  return static_cast<char>(RowKind::kPrincipal) + ToString(key.bytes());
}

CurvePublicKey ParsePrincipalKey(std::string_view key) {
  if (key.empty() || key[0] != static_cast<char>(RowKind::kPrincipal)) return {};
  return CurvePublicKey::FromBytes(AsBytes(key.substr(1)));
}

SessionId ParseSessionKey(std::string_view key) {
  if (key.empty() || key[0] != static_cast<char>(RowKind::kSession)) return {};
  return SessionId::FromBytes(AsBytes(key.substr(1)));
}

std::string OutboxKey(uint64_t number) { return NumberKey(RowKind::kOutbox, number); }
std::string MetaKey(std::string_view name) { return KeyOf(RowKind::kMeta, name); }

std::string Encode(const CollectionRow& row) {
  Buffer buffer = BeginRow();
  Writer writer(buffer);
  writer.U64(row.number);
  writer.Id(row.domain);
  writer.I64(row.created_nanos);
  return Finish(buffer);
}

StatusOr<CollectionRow> DecodeCollectionRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "collection row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat));
  CollectionRow row;
  row.number = reader.U64();
  row.domain = reader.Id<DomainId>();
  row.created_nanos = reader.I64();
  if (!reader.done()) return Malformed(kWhat);
  return row;
}

std::string Encode(const ObjectRow& row) {
  const bool removed = row.removed_nanos != 0;
  Buffer buffer = BeginRow(removed ? kRemovedObjectVersion : kRowVersion);
  buffer.reserve(64 + row.manifest.size());
  Writer writer(buffer);
  writer.U64(row.commit_number);
  writer.U32(row.leaf_index);
  writer.U64(row.version_number);
  writer.I64(row.commit_nanos);
  writer.Blob(row.manifest);
  if (removed) writer.I64(row.removed_nanos);
  return Finish(buffer);
}

StatusOr<ObjectRow> DecodeObjectRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "object row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat, kRemovedObjectVersion));
  const bool removed = bytes[0] == kRemovedObjectVersion;
  ObjectRow row;
  row.commit_number = reader.U64();
  row.leaf_index = reader.U32();
  row.version_number = reader.U64();
  row.commit_nanos = reader.I64();
  row.manifest = ToBuffer(reader.Blob());
  if (removed) row.removed_nanos = reader.I64();
  if (!reader.done() || removed != (row.removed_nanos > 0)) return Malformed(kWhat);
  return row;
}

std::string Encode(const SessionRow& row) {
  Buffer buffer = BeginRow();
  Writer writer(buffer);
  writer.U64(row.epoch);
  writer.U8(static_cast<uint8_t>(row.state));
  writer.I64(row.opened_nanos);
  writer.Blob(AsBytes(row.last_request));
  writer.Blob(AsBytes(row.last_answer));
  return Finish(buffer);
}

StatusOr<SessionRow> DecodeSessionRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "session row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat));
  SessionRow row;
  row.epoch = reader.U64();
  row.state = static_cast<SessionState>(reader.U8());
  row.opened_nanos = reader.I64();
  row.last_request = reader.String();
  row.last_answer = reader.String();
  if (!reader.done() || row.state < SessionState::kOpen || row.state > SessionState::kAborted) {
    return Malformed(kWhat);
  }
  return row;
}

std::string Encode(const SealingKeyRow& row) {
  Buffer buffer = BeginRow();
  Writer writer(buffer);
  writer.U8(kSuite1);
  writer.Id(row.domain);
  writer.Blob(row.box);
  return Finish(buffer);
}

StatusOr<SealingKeyRow> DecodeSealingKeyRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "sealing key row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat));
  const uint8_t suite = reader.U8();
  if (reader.ok() && suite != kSuite1) return UnknownSuite(kWhat, suite);
  SealingKeyRow row;
  row.domain = reader.Id<DomainId>();
  row.box = ToBuffer(reader.Blob());
  if (!reader.done()) return Malformed(kWhat);
  return row;
}

std::string Encode(const SignatureRow& row) {
  Buffer buffer = BeginRow();
  buffer.reserve(256 + row.leaves.size() * sizeof(Hash256));
  Writer writer(buffer);
  writer.U8(kSuite1);
  writer.Blob(row.signer_public_key);
  writer.Blob(row.certificate);
  writer.Blob(row.signature);
  writer.U32(static_cast<uint32_t>(row.leaves.size()));
  for (const Hash256& leaf : row.leaves) writer.Raw(leaf);
  return Finish(buffer);
}

StatusOr<SignatureRow> DecodeSignatureRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "signature row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat));
  const uint8_t suite = reader.U8();
  if (reader.ok() && suite != kSuite1) return UnknownSuite(kWhat, suite);
  SignatureRow row;
  row.signer_public_key = ToBuffer(reader.Blob());
  row.certificate = ToBuffer(reader.Blob());
  row.signature = ToBuffer(reader.Blob());
  const uint32_t count = reader.U32();
  if (!reader.ok() || count != reader.rest().size() / sizeof(Hash256)) return Malformed(kWhat);
  row.leaves.resize(count);
  for (Hash256& leaf : row.leaves) leaf = ReadHash(reader);
  if (!reader.done()) return Malformed(kWhat);
  return row;
}

std::string Encode(const OutboxRow& row) {
  Buffer buffer = BeginRow();
  Writer writer(buffer);
  writer.U64(row.generation);
  writer.Raw(row.previous);
  writer.I64(row.time_nanos);
  writer.U64(row.epoch);
  writer.Raw(row.nonce);
  writer.U32(static_cast<uint32_t>(row.keys.size()));
  for (const std::string& key : row.keys) writer.Blob(key);
  if (!row.record.empty()) writer.Blob(row.record);
  return Finish(buffer);
}

StatusOr<OutboxRow> DecodeOutboxRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "outbox row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat));
  OutboxRow row;
  row.generation = reader.U64();
  row.previous = ReadHash(reader);
  row.time_nanos = reader.I64();
  row.epoch = reader.U64();
  const Bytes nonce = reader.Raw(row.nonce.size());
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / 4) return Malformed(kWhat);
  std::copy(nonce.begin(), nonce.end(), row.nonce.begin());
  row.keys.resize(count);
  for (std::string& key : row.keys) key = reader.String();
  if (!reader.rest().empty()) {
    const Bytes record = reader.Blob();
    row.record.assign(record.begin(), record.end());
    if (record.empty()) return Malformed(kWhat);  // One without a record ends before it.
  }
  if (!reader.done()) return Malformed(kWhat);
  return row;
}

std::string Encode(const PrincipalRow& row) {
  Buffer buffer = BeginRow();
  Writer writer(buffer);
  writer.U32(row.roles);
  writer.U8(row.revoked ? 1 : 0);
  writer.I64(row.added_nanos);
  writer.Blob(row.name);
  return Finish(buffer);
}

StatusOr<PrincipalRow> DecodePrincipalRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "principal row";
  ASSIGN_OR_RETURN(Reader reader, OpenRow(bytes, kWhat));
  PrincipalRow row;
  row.roles = reader.U32();
  const uint8_t revoked = reader.U8();
  row.revoked = revoked == 1;
  row.added_nanos = reader.I64();
  row.name = reader.String();
  if (!reader.done() || revoked > 1) return Malformed(kWhat);
  return row;
}

std::string EncodeRemovedRow() { return Finish(BeginRow()); }

Status CheckRemovedRow(std::string_view bytes) {
  constexpr std::string_view kWhat = "row of what was removed";
  ASSIGN_OR_RETURN(const Reader reader, OpenRow(bytes, kWhat));
  return reader.done() ? absl::OkStatus() : Malformed(kWhat);
}

namespace {

// What stands in clear at the front of a commit record and is bound into its seal.
Buffer CommitHead(const VaultId& vault, uint64_t generation, uint64_t number) {
  Buffer head;
  Writer writer(head);
  writer.Raw(AsBytes(kCommitMagic));
  writer.U8(kCommitVersion);
  writer.U8(kSuite1);
  writer.Id(vault);
  writer.U64(generation);
  writer.U64(number);
  return head;
}

Buffer EncodeCommitBody(const CommitRecord& record) {
  Buffer body;
  Writer writer(body);
  writer.Raw(record.previous);
  writer.I64(record.time_nanos);
  writer.U64(record.epoch);
  writer.U32(static_cast<uint32_t>(record.mutations.size()));
  for (const KvMutation& mutation : record.mutations) {
    writer.Blob(mutation.key);
    writer.U8(mutation.value ? 1 : 0);
    if (mutation.value) writer.Blob(*mutation.value);
  }
  return body;
}

bool DecodeCommitBody(Bytes body, CommitRecord& record) {
  Reader reader(body);
  record.previous = ReadHash(reader);
  record.time_nanos = reader.I64();
  record.epoch = reader.U64();
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / 5) return false;  // A length and a flag each.
  record.mutations.resize(count);
  for (KvMutation& mutation : record.mutations) {
    mutation.key = reader.String();
    const uint8_t has_value = reader.U8();
    if (has_value > 1) return false;
    if (has_value == 1) mutation.value = reader.String();
  }
  return reader.done();
}

}  // namespace

Buffer EncodeCommitRecord(const AeadKey& commit_key, const VaultId& vault,
                          const CommitRecord& record, const AeadNonce& nonce) {
  Buffer stored = CommitHead(vault, record.generation, record.number);
  const Buffer body = EncodeCommitBody(record);
  const size_t head_size = stored.size();
  stored.resize(head_size + kAeadNonceSize + body.size() + kAeadTagSize);
  std::copy(nonce.begin(), nonce.end(), stored.begin() + head_size);
  AeadSeal(commit_key, nonce, Bytes(stored).first(head_size), body,
           MutableBytes(stored).subspan(head_size + kAeadNonceSize));
  return stored;
}

StatusOr<CommitRecord> DecodeCommitRecord(const AeadKey& commit_key, const VaultId& vault,
                                          Bytes stored) {
  constexpr std::string_view kWhat = "commit record";
  Reader reader(stored);
  const bool magic = AsView(reader.Raw(kCommitMagic.size())) == kCommitMagic;
  const uint8_t version = reader.U8();
  const uint8_t suite = reader.U8();
  const VaultId found = reader.Id<VaultId>();
  CommitRecord record;
  record.generation = reader.U64();
  record.number = reader.U64();
  if (!magic || !reader.ok()) return Malformed(kWhat);
  if (version != kCommitVersion) return UnknownVersion(kWhat, version, kCommitVersion);
  if (suite != kSuite1) return UnknownSuite(kWhat, suite);
  const std::string what = std::string(kWhat) + " " + std::to_string(record.number);
  if (found != vault) return Damaged(what, "it belongs to vault " + found.hex());
  const Bytes head = stored.first(stored.size() - reader.rest().size());
  ASSIGN_OR_RETURN(const Buffer body, AeadOpenWithNonce(commit_key, head, reader.rest(), what));
  if (!DecodeCommitBody(body, record)) return Malformed(what);
  return record;
}

RecordId CommitRecordId(const VaultId& vault, uint64_t generation, uint64_t number) {
  Buffer numbers;
  Writer writer(numbers);
  writer.U64(generation);
  writer.U64(number);
  return RecordId{Sha256({AsBytes("holdfast/1 commit record"), vault.bytes(), numbers})};
}

CatalogueKeys DeriveCatalogueKeys(const std::array<uint8_t, 32>& catalogue_key) {
  return {.rows = HmacSha256(catalogue_key, {AsBytes("holdfast/1 catalogue rows")}),
          .commit = HmacSha256(catalogue_key, {AsBytes("holdfast/1 commit records")}),
          .parts = HmacSha256(catalogue_key, {AsBytes("holdfast/1 manifest parts")}),
          .backup = HmacSha256(catalogue_key, {AsBytes("holdfast/1 catalogue backup")})};
}

}  // namespace holdfast

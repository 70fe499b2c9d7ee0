// Rows of the catalogue and the commit record. docs/formats/catalogue.md.
//
// A commit record carries the row mutations of one commit, so that the catalogue can be rebuilt by
// replaying them in order. Row values start with a version byte; an unknown one is refused by name.
#pragma once

#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/crypto/aead.h"
#include "common/format/manifest.h"
#include "common/kv/kv.h"

namespace holdfast {

// First byte of every key: which kind of row. Letters not listed are free for later kinds
// (jobs, holds, ledger).
enum class RowKind : char {
  kMeta = 'm',        // "m" ‖ name → vault facts
  kCollection = 'c',  // "c" ‖ name → CollectionRow
  kObject = 'o',  // "o" ‖ be64 collection ‖ escaped name ‖ be64 ~version number → ObjectRow
  kSession = 's',     // "s" ‖ session id → SessionRow
  kSealingKey = 'k',  // "k" ‖ sealing key id → SealingKeyRow
  kSignature = 'b',   // "b" ‖ be64 commit number → SignatureRow
  kMap = 'M',         // "M" → the cluster map (common/cluster/cluster_map.h); only in a cluster
  kPrincipal = 'p',   // "p" ‖ CURVE public key → PrincipalRow; only in a cluster
  kOutbox = 'x',      // "x" ‖ be64 commit number → OutboxRow: not yet on W nodes
  kRemoved = 'r',  // "r" ‖ be64 time of removal ‖ object key → nothing: what is in the trash
};

struct CollectionRow {
  uint64_t number = 0;
  DomainId domain;
  int64_t created_nanos = 0;
};
struct ObjectRow {
  uint64_t commit_number = 0;   // Whose signature row covers it …
  uint32_t leaf_index = 0;      // … and its leaf there.
  uint64_t version_number = 0;  // 1, 2, 3 … per name.
  int64_t commit_nanos = 0;
  Buffer manifest;  // Encoded ClearManifest, exactly as the client signed it.
  // When it was removed; 0: it was not. A removed version keeps its row until it is purged, and
  // nobody sees it meanwhile.
  int64_t removed_nanos = 0;
};
enum class SessionState : uint8_t { kOpen = 1, kDone = 2, kAborted = 3 };
struct SessionRow {
  uint64_t epoch = 0;
  SessionState state = SessionState::kOpen;
  int64_t opened_nanos = 0;
  // The last commit that stored something, so that it is answered alike when it is asked for again
  // by a client that saw the coordinator restart: its request id, and the head of the reply.
  std::string last_request;
  std::string last_answer;
};
struct SealingKeyRow {
  DomainId domain;
  Buffer box;  // The 32-byte sealing key, sealed to the domain's public key.
};
struct SignatureRow {
  Buffer signer_public_key;
  Buffer certificate;
  Buffer signature;  // Over SignatureMessage(domain, MerkleRoot(leaves)).
  std::vector<Hash256> leaves;
};

// What makes a commit record again, byte for byte, from the rows it brought, which no later commit
// changes before it is on W nodes: so the catalogue's log does not carry them twice.
struct OutboxRow {
  uint64_t generation = 0;
  Hash256 previous{};
  int64_t time_nanos = 0;
  uint64_t epoch = 0;
  AeadNonce nonce{};
  Buffer record;  // Not empty: the record itself, since rows it brought were changed later.
  std::vector<std::string> keys;  // Of the mutations, in order; one without a row was deleted.
};

// Who may do what (common/cluster/access.h). Principals are revoked, never forgotten.
struct PrincipalRow {
  uint32_t roles = 0;
  bool revoked = false;
  int64_t added_nanos = 0;
  std::string name;  // For people.
};

std::string CollectionKey(std::string_view name);
std::string ObjectKey(uint64_t collection, std::string_view name, uint64_t version_number);
// All versions of `name` lie in [ObjectNameBegin, ObjectNameEnd); newest first.
std::string ObjectNameBegin(uint64_t collection, std::string_view name);
std::string ObjectNameEnd(uint64_t collection, std::string_view name);
// All names that start with `prefix` (by byte; empty: all) lie in [begin, end).
std::string ObjectPrefixBegin(uint64_t collection, std::string_view prefix);
std::string ObjectPrefixEnd(uint64_t collection, std::string_view prefix);
struct ParsedObjectKey {
  uint64_t collection = 0;
  std::string name;
  uint64_t version_number = 0;
};
StatusOr<ParsedObjectKey> ParseObjectKey(std::string_view key);
// What was removed lies in order of the time.
std::string RemovedKey(int64_t removed_nanos, std::string_view object_key);
struct ParsedRemovedKey {
  int64_t removed_nanos = 0;
  std::string object_key;
};
StatusOr<ParsedRemovedKey> ParseRemovedKey(std::string_view key);
std::string SessionKey(const SessionId& id);
std::string SealingKeyKey(const SealingKeyId& id);
std::string SignatureKey(uint64_t commit_number);
std::string OutboxKey(uint64_t commit_number);
std::string MapKey();
std::string PrincipalKey(const CurvePublicKey& key);
// The zero key when `key` is no principal row's.
CurvePublicKey ParsePrincipalKey(std::string_view key);
SessionId ParseSessionKey(std::string_view key);
std::string MetaKey(std::string_view name);

std::string Encode(const CollectionRow& row);
std::string Encode(const ObjectRow& row);
std::string Encode(const SessionRow& row);
std::string Encode(const SealingKeyRow& row);
std::string Encode(const SignatureRow& row);
std::string Encode(const OutboxRow& row);
std::string Encode(const PrincipalRow& row);
std::string EncodeRemovedRow();
StatusOr<CollectionRow> DecodeCollectionRow(std::string_view bytes);
StatusOr<ObjectRow> DecodeObjectRow(std::string_view bytes);
StatusOr<SessionRow> DecodeSessionRow(std::string_view bytes);
StatusOr<SealingKeyRow> DecodeSealingKeyRow(std::string_view bytes);
StatusOr<SignatureRow> DecodeSignatureRow(std::string_view bytes);
StatusOr<OutboxRow> DecodeOutboxRow(std::string_view bytes);
StatusOr<PrincipalRow> DecodePrincipalRow(std::string_view bytes);
Status CheckRemovedRow(std::string_view bytes);

struct CommitRecord {
  uint64_t generation = 0;
  uint64_t number = 0;  // 1, 2, 3 … without gaps.
  Hash256 previous{};   // SHA-256 of the previous encoded record; zero for number 1.
  int64_t time_nanos = 0;
  uint64_t epoch = 0;  // E when it was made.
  KvBatch mutations;
};
// magic ‖ version ‖ suite ‖ vault ‖ generation ‖ number in clear, then nonce ‖ ciphertext ‖ tag
// under the commit key (derived from the catalogue key), the clear bytes as AAD.
Buffer EncodeCommitRecord(const AeadKey& commit_key, const VaultId& vault,
                          const CommitRecord& record, const AeadNonce& nonce);
StatusOr<CommitRecord> DecodeCommitRecord(const AeadKey& commit_key, const VaultId& vault,
                                          Bytes stored);
// The record id under which nodes keep it: SHA-256("holdfast/1 commit record" ‖ vault ‖
// generation ‖ number).
RecordId CommitRecordId(const VaultId& vault, uint64_t generation, uint64_t number);

// Keys the coordinator derives from the catalogue key: rows at rest, commit records, parts.
struct CatalogueKeys {
  std::array<uint8_t, 32> rows;
  AeadKey commit;
  AeadKey parts;
  AeadKey backup;
};
CatalogueKeys DeriveCatalogueKeys(const std::array<uint8_t, 32>& catalogue_key);

}  // namespace holdfast

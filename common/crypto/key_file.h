// The key file of a vault (docs/formats/key-file.md): what a client holds and the storage never
// does. JSON, 0600; in clear, or wrapped under a passphrase (scrypt, RFC 7914, N = 2^16, r = 8,
// p = 1; AES-256-GCM).
//
// A full key file does all, and makes others. An ingest-only one ingests, deduplicates and lists
// names, but has no domain private key and so opens no content. A reader's opens content. What
// ingests has a signing key of its own, certified by the domain's root key, which only the full
// file has: readers can tell what came from a genuine ingest key. A cluster-only one holds no key
// of the domain at all: it says who its holder is to a cluster.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/crypto/keypair.h"
#include "common/io/fs.h"

namespace holdfast {

// How to speak to a cluster: who the holder is there, and who the coordinator must be.
struct ClusterIdentity {
  CurvePublicKey public_key;
  std::array<uint8_t, 32> secret_key{};
  CurvePublicKey coordinator;
};

struct KeyFile {
  VaultId vault;
  DomainId domain;
  // Opens names and commit records at rest. A cluster's coordinator has it, and nobody else: in the
  // key file of a cluster it is zero and not stored.
  std::array<uint8_t, 32> catalogue_key{};
  std::array<uint8_t, 32> k_dedup{};
  PublicKey domain_public_key{};                 // Session keys are sealed to it.
  std::optional<PrivateKey> domain_private_key;  // In a full key file and a reader's.
  PublicKey root_public_key{};                   // Certifies ingest keys.
  std::optional<PrivateKey> root_private_key;    // Only in a full key file.
  KeyPair signing_key;  // This file's own, to ingest with; zero where it may not.
  Buffer certificate;   // Root's signature over "holdfast/1 ingest key" ‖ domain ‖ public key.

  std::optional<ClusterIdentity> cluster;  // Only in the key file of a cluster.

  bool can_read() const { return domain_private_key.has_value(); }
  bool can_ingest() const { return signing_key.private_key != PrivateKey{}; }
  WriterId writer() const;
};

// New keys for a new vault.
StatusOr<KeyFile> GenerateKeyFile(Rng& rng, const VaultId& vault);
// A new ingest-only key of the same domain. kPermissionDenied when `full` is not.
StatusOr<KeyFile> MakeIngestOnly(const KeyFile& full);
// One that reads, without the root key; one that `ingests` too has a new signing key.
// kPermissionDenied when `key` does not read, or ingest is wanted of one that is not full.
StatusOr<KeyFile> MakeReader(const KeyFile& key, bool ingests);
// One without any key of the domain.
KeyFile MakeClusterOnly(const KeyFile& key);
// Whether `certificate` is the root's for `signer` in this domain.
bool CheckCertificate(const KeyFile& key, const PublicKey& signer, Bytes certificate);

// Fails with kAlreadyExists rather than overwrite a file.
Status WriteKeyFile(Fs& fs, const std::string& path, const KeyFile& key,
                    const std::optional<std::string>& passphrase, Rng& rng);
// kNotFound; kDataLoss (malformed, bad checksum, keys that do not belong together);
// kFailedPrecondition (unknown version, named); kPermissionDenied (a passphrase is needed and none
// given, or it is wrong).
StatusOr<KeyFile> ReadKeyFile(Fs& fs, const std::string& path,
                              const std::optional<std::string>& passphrase);
// Whether the file at `path` wants a passphrase.
StatusOr<bool> KeyFileNeedsPassphrase(Fs& fs, const std::string& path);

}  // namespace holdfast

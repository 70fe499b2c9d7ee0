// What one learns who holds the ingest-only key file, every file of the vault, and the SHA-256 and
// length of what is stored, from an export or a hash list: not the key of any chunk. DESIGN 5.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "cli/embedded.h"
#include "client/ingest.h"
#include "client/object_keys.h"
#include "common/format/segment_format.h"
#include "common/kv/rocks_kv.h"
#include "tests/client/memory_source.h"
#include "tests/common/io/temp_dir.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;
using cli::EmbeddedVault;

std::string Noise(uint64_t seed, size_t size) {
  SimRng rng(seed);
  std::string bytes(size, '\0');
  rng.Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
  return bytes;
}

std::string Raw(Bytes bytes) { return ToString(bytes); }

std::string Poly1305(Bytes key, Bytes message) {
  std::string tag(16, '\0');
  size_t size = 0;
  EXPECT_NE(EVP_Q_mac(nullptr, "POLY1305", nullptr, nullptr, nullptr, key.data(), key.size(),
                      message.data(), message.size(), reinterpret_cast<uint8_t*>(tag.data()),
                      tag.size(), &size),
            nullptr);
  return tag;
}

Hash256 ChunkKey(const Hash256& h) { return HmacSha256(h, {AsBytes("holdfast/1 chunk key")}); }

// Finds any of many byte strings in long texts.
class Needles {
 public:
  void Add(const std::string& name, const std::string& bytes) {
    ASSERT_GE(bytes.size(), 16u) << name;
    // As it is, and as JSON would have it.
    Insert(name, bytes);
    Insert(name + " in hex", ToHex(AsBytes(bytes)));
  }
  size_t size() const { return by_start_.size(); }

  // The names of those that occur in `text`.
  std::vector<std::string> In(std::string_view text) const {
    std::vector<std::string> found;
    for (size_t i = 0; i + 16 <= text.size(); ++i) {
      const uint64_t start = Start(text.data() + i);
      if (!filter_[start % filter_.size()]) continue;
      auto [at, end] = std::pair(by_start_.find(start), by_start_.end());
      if (at != end && text.substr(i).starts_with(at->second.bytes)) {
        found.push_back(at->second.name);
      }
    }
    return found;
  }

 private:
  struct Needle {
    std::string name, bytes;
  };
  static uint64_t Start(const char* at) {
    uint64_t start;
    memcpy(&start, at, sizeof start);
    return start;
  }
  void Insert(const std::string& name, const std::string& bytes) {
    const uint64_t start = Start(bytes.data());
    by_start_.insert({start, {name, bytes}});
    filter_[start % filter_.size()] = true;
  }
  absl::flat_hash_map<uint64_t, Needle> by_start_;
  std::vector<bool> filter_ = std::vector<bool>(1u << 22);
};

// What the storage and an ingest-only key give away, in clear.
struct Loot {
  std::map<std::string, std::string> files;  // Raw, by path.
  std::map<std::string, std::string>
      opened;                         // What keys of the ingest-only key file open, by what.
  std::map<RecordId, Buffer> chunks;  // As stored.
  std::vector<ClearManifest> manifests;
  std::map<std::string, SealingKeyRow> sealing_keys;  // By their id's bytes.
};

class ConfidentialityTest : public ::testing::Test {
 protected:
  // The vault is made once.
  static void SetUpTestSuite() {
    full_ = *GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>());
    keys_ = std::make_unique<DomainKeys>(full_.k_dedup);  // Both keys hold it.
    EXPECT_TRUE(EmbeddedVault::Init({.dir = vault_dir_, .chunk_size = 64 * 1024}, full_).ok());
    const KeyFile field = *MakeIngestOnly(full_);
    EXPECT_TRUE(
        WriteKeyFile(PosixFs(), dir_.path() + "/field.key", field, std::nullopt, SecureRng()).ok());
    field_ = *ReadKeyFile(PosixFs(), dir_.path() + "/field.key", std::nullopt);
    // One of one chunk, whose SHA-256 is its object's; some that compress; one with manifest parts.
    contents_["one chunk"] = Noise(1, 2'000);
    for (int i = 0; contents_["text"].size() < 300'000; ++i) {
      contents_["text"] += "line " + std::to_string(i) + " of what the witness said\n";
    }
    contents_["parts"] = Noise(2, 80'000'000);
    contents_["by the field"] = Noise(3, 3'000);
    Store(full_, {"one chunk", "text", "parts"});
    Store(field_, {"by the field"});
    CollectSecrets();
    Plunder();
    for (const auto& [id, row] : loot_.sealing_keys) {
      const StatusOr<AeadKey> key =
          OpenSealingKey({full_.domain_public_key, *full_.domain_private_key}, full_.domain,
                         SealingKeyId::FromBytes(AsBytes(id)), row.box);
      EXPECT_TRUE(key.ok()) << key.status();
      secrets_.Add("a session's sealing key", Raw(*key));
    }
  }

  static std::unique_ptr<EmbeddedVault> Open(const KeyFile& key) {
    cli::OpenError error;
    std::unique_ptr<EmbeddedVault> vault = EmbeddedVault::Open(vault_dir_, key, false, &error);
    EXPECT_NE(vault, nullptr) << error.status;
    return vault;
  }

  static void Store(const KeyFile& key, const std::vector<std::string>& names) {
    const std::unique_ptr<EmbeddedVault> vault = Open(key);
    MemorySource source;
    for (const std::string& name : names) source.AddFile(name, contents_[name]);
    const auto engine = kernels::MakePortableEngine(vault->vault().engine_options());
    IngestObserver observer;
    const StatusOr<IngestSummary> done =
        Ingest(vault->vault(), *engine, source, {.collection = "c"}, observer);
    ASSERT_TRUE(done.ok()) << done.status();
    ASSERT_EQ(done->files, names.size());
    ASSERT_TRUE(vault->Close().ok());
  }

  // With the full key, and each checked against what it must open.
  static void CollectSecrets() {
    const std::unique_ptr<EmbeddedVault> vault = Open(full_);
    secrets_.Add("the domain's private key", Raw(*full_.domain_private_key));
    secrets_.Add("the root's private key", Raw(*full_.root_private_key));
    for (const auto& [name, content] : contents_) {
      StatusOr<ObjectInfo> info = vault->vault().Lookup("c", name);
      ASSERT_TRUE(info.ok()) << info.status();
      const StatusOr<Vault::OpenedObject> object = vault->vault().OpenObject(*info);
      ASSERT_TRUE(object.ok()) << object.status();
      secrets_.Add("the object key of " + name, Raw(object->object_key));
      secrets_.Add("the SHA-256 of " + name, Raw(object->sealed.sha256));
      const StatusOr<ManifestPart> chunks = vault->vault().Chunks(*object);
      ASSERT_TRUE(chunks.ok()) << chunks.status();
      uint64_t offset = 0;
      for (size_t i = 0; i < chunks->chunks.size(); ++i) {
        const SealedChunkInfo& chunk = chunks->sealed_chunks[i];
        AddChunk(name + ", chunk " + std::to_string(i), chunks->chunks[i].id, chunk.h,
                 AsBytes(content).subspan(offset, chunk.length));
        offset += chunk.length;
      }
      ASSERT_EQ(offset, content.size());
    }
  }

  static void AddChunk(const std::string& name, const RecordId& id, const Hash256& h, Bytes plain) {
    const std::string x = Poly1305(keys_->poly1305_key(), plain);
    ASSERT_EQ(keys_->ChunkSecret(Sha256(plain), plain.size(), AsBytes(x)), h);
    ASSERT_EQ(ChunkIdOf(h), id);
    secrets_.Add("x of " + name, x);
    secrets_.Add("h of " + name, Raw(h));
    secrets_.Add("the key of " + name, Raw(ChunkKey(h)));
    secrets_.Add("the SHA-256 of " + name, Raw(Sha256(plain)));
    ids_.insert(id);
    chunk_keys_[id] = ChunkKey(h);
  }

  static void Plunder() {
    for (const auto& entry : fs::recursive_directory_iterator(vault_dir_)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      loot_.files[entry.path().string()] = std::string(std::istreambuf_iterator<char>(in), {});
    }
    const CatalogueKeys keys = DeriveCatalogueKeys(field_.catalogue_key);
    PlunderKv("catalogue", {.encryption_key = keys.rows});
    PlunderKv("node-0/index", {.wal = false, .bloom = true});
    for (const auto& [path, bytes] : loot_.files) {
      if (path.ends_with(".seg")) PlunderSegment(AsBytes(bytes), keys);
    }
    std::ifstream in(dir_.path() + "/field.key", std::ios::binary);
    loot_.opened["the key file"] = std::string(std::istreambuf_iterator<char>(in), {});
    loot_.opened["its keys"] = Raw(field_.catalogue_key) + Raw(field_.k_dedup) +
                               Raw(field_.signing_key.private_key) + Raw(keys.rows) +
                               Raw(keys.commit) + Raw(keys.parts) + Raw(keys_->poly1305_key()) +
                               Raw(keys_->cut_seed());
  }

  static void PlunderKv(const std::string& name, const RocksKvOptions& options) {
    const StatusOr<std::unique_ptr<Kv>> kv =
        OpenRocksKv(vault_dir_ + "/" + name, /*create=*/false, options);
    ASSERT_TRUE(kv.ok()) << kv.status();
    const auto visit = [&](std::string_view key, std::string_view value) {
      std::string& rows = loot_.opened[name + " rows " + std::string(key.substr(0, 1))];
      rows.append(key).append(value);
      if (name == "catalogue") PlunderRow(key, value);
      return true;
    };
    EXPECT_TRUE((*kv)->Scan("", "", visit).ok());
  }

  static void PlunderRow(std::string_view key, std::string_view value) {
    if (key[0] == static_cast<char>(RowKind::kObject)) {
      const StatusOr<ObjectRow> row = DecodeObjectRow(value);
      ASSERT_TRUE(row.ok()) << row.status();
      loot_.manifests.push_back(*DecodeClearManifest(row->manifest));
    } else if (key[0] == static_cast<char>(RowKind::kSealingKey)) {
      loot_.sealing_keys[std::string(key.substr(1))] = *DecodeSealingKeyRow(value);
    }
  }

  static void PlunderSegment(Bytes segment, const CatalogueKeys& keys) {
    for (size_t at = kBlockSize; at + kBatchHeaderSize <= segment.size();) {
      const StatusOr<BatchHeader> batch = DecodeBatchHeader(segment.subspan(at));
      if (!batch.ok()) return;
      size_t record = at + kBatchHeaderSize;
      for (uint32_t i = 0; i < batch->record_count; ++i) {
        const StatusOr<RecordHeader> header = DecodeRecordHeader(segment.subspan(record));
        ASSERT_TRUE(header.ok()) << header.status();
        PlunderRecord(*header, segment.subspan(record + kRecordHeaderSize, header->length), keys);
        record += RecordExtent(header->length);
      }
      at += batch->total_bytes;
    }
  }

  static void PlunderRecord(const RecordHeader& header, Bytes payload, const CatalogueKeys& keys) {
    if (header.kind == RecordKind::kChunk) {
      loot_.chunks[header.id] = Buffer(payload.begin(), payload.end());
    } else if (header.kind == RecordKind::kManifestPart) {
      const StatusOr<PartRecord> part = DecodePartRecord(keys.parts, header.id, payload);
      ASSERT_TRUE(part.ok()) << part.status();
      loot_.opened["manifest parts"] += Raw(part->clear) + Raw(part->sealed);
    } else if (header.kind == RecordKind::kCommitRecord) {
      const StatusOr<CommitRecord> commit = DecodeCommitRecord(keys.commit, field_.vault, payload);
      ASSERT_TRUE(commit.ok()) << commit.status();
      for (const KvMutation& row : commit->mutations) {
        loot_.opened["commit records"] += row.key + row.value.value_or("");
      }
    }
  }

  static bool OpensChunk(const Hash256& key, const RecordId& id) {
    Buffer aad = {kSuite1};
    aad.insert(aad.end(), id.value.begin(), id.value.end());
    return AeadOpenWithNonce(key, aad, loot_.chunks.at(id), "a chunk").ok();
  }

  // The chunk of an object that has but one, and so its digest and length.
  static RecordId OnlyChunkOf(const std::string& name) {
    for (const ClearManifest& manifest : loot_.manifests) {
      if (manifest.name == name && manifest.chunks.size() == 1) return manifest.chunks[0].id;
    }
    ADD_FAILURE() << name << " has not one chunk";
    return {};
  }

  // Whether a string of 32 bytes is, or leads to, anything that opens content.
  static void TryAsKey(const Hash256& guess, const std::string& what) {
    EXPECT_FALSE(ids_.contains(ChunkIdOf(guess))) << what << " is an h";
    for (const char* name : {"one chunk", "by the field"}) {
      EXPECT_FALSE(OpensChunk(guess, OnlyChunkOf(name))) << what << " is a chunk key";
    }
    for (const ClearManifest& m : loot_.manifests) {
      EXPECT_FALSE(UnwrapObjectKey(guess, field_.domain, m.version, m.wrapped_key).ok())
          << what << " is a sealing key";
      EXPECT_FALSE(OpenManifest(guess, field_.domain, m.version, m.sealed).ok())
          << what << " is an object key";
    }
  }

  // Whether 16 bytes are the x of the chunk, of which the digest and the length are known.
  static void TryAsX(const RecordId& id, const Hash256& c, uint64_t length, Bytes x,
                     const std::string& what) {
    const Hash256 h = keys_->ChunkSecret(c, length, x);
    EXPECT_NE(ChunkIdOf(h), id) << what << " is x";
  }

  static inline TempDir dir_;
  static inline const std::string vault_dir_ = dir_.path() + "/vault";
  static inline KeyFile full_, field_;
  static inline std::map<std::string, std::string> contents_;
  static inline std::unique_ptr<DomainKeys> keys_;
  static inline Needles secrets_;
  static inline std::set<RecordId> ids_;
  static inline std::map<RecordId, Hash256> chunk_keys_;
  static inline Loot loot_;
};

// Else the tests below would show nothing: everything is there, and the secrets are the right ones.
TEST_F(ConfidentialityTest, TheLootIsWholeAndTheSecretsOpenIt) {
  for (const char* what :
       {"catalogue rows m", "catalogue rows c", "catalogue rows o", "catalogue rows k",
        "catalogue rows b", "commit records", "manifest parts", "the key file"}) {
    EXPECT_GT(loot_.opened[what].size(), 30u) << what;
  }
  EXPECT_EQ(loot_.manifests.size(), contents_.size());
  EXPECT_EQ(loot_.sealing_keys.size(), 2u);
  EXPECT_GT(loot_.chunks.size(), kChunksPerPart);
  EXPECT_EQ(loot_.chunks.size(), chunk_keys_.size());
  for (const auto& [id, key] : chunk_keys_) EXPECT_TRUE(OpensChunk(key, id));
  EXPECT_GT(secrets_.size(), 2 * 4 * loot_.chunks.size());
  const std::string key = Raw(chunk_keys_.begin()->second);
  EXPECT_EQ(secrets_.In("before" + key + "after").size(), 1u);
  EXPECT_EQ(secrets_.In("{\"key\": \"" + ToHex(AsBytes(key)) + "\"}").size(), 1u);
}

TEST_F(ConfidentialityTest, NothingThatCanBeReadHoldsASecret) {
  for (const auto& [path, bytes] : loot_.files) {
    EXPECT_THAT(secrets_.In(bytes), ::testing::IsEmpty()) << path;
  }
  for (const auto& [what, bytes] : loot_.opened) {
    EXPECT_THAT(secrets_.In(bytes), ::testing::IsEmpty()) << what;
  }
}

TEST_F(ConfidentialityTest, NoBytesThatCanBeReadAreAKey) {
  for (const auto& [what, bytes] : loot_.opened) {
    if (what.starts_with("node-0/index") || what == "manifest parts") continue;
    for (size_t i = 0; i + 32 <= bytes.size(); ++i) {
      Hash256 guess;
      memcpy(guess.data(), bytes.data() + i, guess.size());
      TryAsKey(guess, what);
      if (HasFailure()) return;
    }
  }
}

TEST_F(ConfidentialityTest, TheDigestAndTheDedupKeyLeadToNoKey) {
  for (const char* name : {"one chunk", "by the field"}) {
    const RecordId id = OnlyChunkOf(name);
    const std::string& content = contents_[name];
    const Hash256 c = Sha256(AsBytes(content));
    const uint64_t length = content.size();
    for (const auto& [what, bytes] : loot_.opened) {
      for (size_t i = 0; i + 16 <= bytes.size(); ++i) {
        TryAsX(id, c, length, AsBytes(bytes).subspan(i, 16), what);
      }
    }
    uint8_t md5[16];
    size_t size = 0;
    EVP_Q_digest(nullptr, "MD5", nullptr, content.data(), length, md5, &size);
    for (const std::string& x :
         {std::string(16, '\0'), std::string(16, '\xff'), Raw(c).substr(0, 16), Raw(c).substr(16),
          Raw(md5), Poly1305(keys_->poly1305_key(), c), Poly1305(keys_->poly1305_key(), {})}) {
      TryAsX(id, c, length, AsBytes(x), "a guess");
      TryAsKey(keys_->ChunkSecret(c, length, AsBytes(x)), "h of a guess");
      TryAsKey(ChunkKey(keys_->ChunkSecret(c, length, AsBytes(x))), "the key of a guess");
    }
    for (const Hash256& guess :
         {c, id.value, ChunkKey(c), ChunkKey(id.value), HmacSha256(field_.k_dedup, {c}),
          HmacSha256(field_.k_dedup, {id.value}), HmacSha256(c, {id.value}),
          keys_->Tag(DigestAlgorithm::kSha256, c).value}) {
      TryAsKey(guess, "a formula");
    }
    // The content itself needs no key; this much the threat model grants, and it shows that the
    // formulas here are those of the vault.
    const std::string x = Poly1305(keys_->poly1305_key(), AsBytes(content));
    EXPECT_TRUE(OpensChunk(ChunkKey(keys_->ChunkSecret(c, length, AsBytes(x))), id));
  }
}

TEST_F(ConfidentialityTest, TheIngestOnlyKeyOpensNoSealingKey) {
  for (const auto& [id, row] : loot_.sealing_keys) {
    for (const KeyPair& pair :
         {field_.signing_key, KeyPair{field_.domain_public_key, field_.signing_key.private_key}}) {
      EXPECT_FALSE(
          OpenSealingKey(pair, field_.domain, SealingKeyId::FromBytes(AsBytes(id)), row.box).ok());
    }
  }
}

}  // namespace
}  // namespace holdfast

#include "common/crypto/key_file.h"

#include <gtest/gtest.h>

#include "common/crypto/checked_json.h"
#include "common/crypto/hmac.h"
#include "common/io/sim_fs.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Counting;
using testing::CountingArray;
using testing::Hex;

template <size_t N>
std::array<uint8_t, N> Fixed(std::string_view hex) {
  std::array<uint8_t, N> out;
  EXPECT_TRUE(FromHex(hex, out));
  return out;
}

// The keys of the golden files: made once, of no other use.
KeyFile FixedKeyFile() {
  KeyFile key;
  key.vault = Counting<VaultId>(0x10);
  key.domain = Counting<DomainId>(0x20);
  key.catalogue_key = CountingArray<32>(0x80);
  key.k_dedup = CountingArray<32>(0x00);
  key.domain_public_key = Fixed<65>(
      "04e0452c2b381a6f0f4ddb8a0576d0f405d6772a5c6d2b8c38111f44c94a03e6d0"
      "2420589ffeb22982cc4630921cad0496790393f4b9036ece1d281a21644a087d");
  key.domain_private_key =
      Fixed<32>("a071311e24037fdedb4968bc2ed0f75ff5247de426ed971a3e1010158a95d409");
  key.root_public_key = Fixed<65>(
      "04ae64ecf09c2983350222d1e2ba14dd9e75bd051aa3cdde319c8afa58d1f5aeff"
      "b168426a7c9b1b26cfc69c0ef965f6f122fa2861b5494c8fb1028dc250fc9802");
  key.root_private_key =
      Fixed<32>("1a4953c4d03c569e2d0b06ad2be77d4a3811d9a8843f9368fbb69355591c3757");
  key.signing_key.public_key = Fixed<65>(
      "04102463b044baafcae7dfa1d8c37540db79dc923bbf2f41220c1633ae4c4c0fa9"
      "b20be1888f55ae066ff8fff22fdde914058fe290733ff4c82fc4a36ed677cd0a");
  key.signing_key.private_key =
      Fixed<32>("c555716625ed1c4f089d35ded2bc8c5bd3947f71ccc17994f40c04ec78edccb1");
  key.certificate =
      Hex("3046022100e6e3208ae6c253118fa5ec6f8742b1d91e2100a49799cd0208f7d92836a79f1d"
          "022100c6669fec2fe6748cba97299316d7d56f57fcb3163acc49f5d49e0a07b67f9879");
  return key;
}

void ExpectSameKeys(const KeyFile& a, const KeyFile& b) {
  EXPECT_EQ(a.vault, b.vault);
  EXPECT_EQ(a.domain, b.domain);
  EXPECT_EQ(a.catalogue_key, b.catalogue_key);
  EXPECT_EQ(a.k_dedup, b.k_dedup);
  EXPECT_EQ(a.domain_public_key, b.domain_public_key);
  EXPECT_EQ(a.domain_private_key, b.domain_private_key);
  EXPECT_EQ(a.root_public_key, b.root_public_key);
  EXPECT_EQ(a.root_private_key, b.root_private_key);
  EXPECT_EQ(a.signing_key.public_key, b.signing_key.public_key);
  EXPECT_EQ(a.signing_key.private_key, b.signing_key.private_key);
  EXPECT_EQ(a.certificate, b.certificate);
}

class KeyFileTest : public ::testing::Test {
 protected:
  KeyFileTest() { EXPECT_TRUE(fs_.CreateDir("/k").ok()); }

  std::string Written(const KeyFile& key, const std::optional<std::string>& passphrase) {
    SimRng rng(1);
    EXPECT_TRUE(WriteKeyFile(fs_, "/k/written", key, passphrase, rng).ok());
    return Text("/k/written");
  }
  std::string Text(const std::string& path) { return ToString(*ReadFile(fs_, path)); }
  StatusOr<KeyFile> Read(std::string_view text, const std::optional<std::string>& passphrase) {
    EXPECT_TRUE(WriteFileAtomically(fs_, "/k/read", AsBytes(text)).ok());
    return ReadKeyFile(fs_, "/k/read", passphrase);
  }
  // The same file with one text replaced by another, and a good checksum.
  static std::string Edited(std::string text, std::string_view from, std::string_view to) {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    Json body = Json::parse(text);
    body.erase("checksum");
    return EncodeCheckedJson(body);
  }

  SimFs fs_{1};
};

TEST_F(KeyFileTest, GoldenInClear) {
  const std::string text = Written(FixedKeyFile(), std::nullopt);
  const std::string golden = testing::GoldenText("key-file.json", text);
  EXPECT_EQ(golden, text);
  const auto read = Read(golden, std::nullopt);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSameKeys(*read, FixedKeyFile());
}

TEST_F(KeyFileTest, GoldenWrapped) {
  const std::string text = Written(FixedKeyFile(), "a passphrase");
  const std::string golden = testing::GoldenText("key-file-wrapped.json", text);
  EXPECT_EQ(golden, text);
  const auto read = Read(golden, "a passphrase");
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSameKeys(*read, FixedKeyFile());
  EXPECT_TRUE(absl::IsPermissionDenied(Read(golden, "another").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(Read(golden, "").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(Read(golden, std::nullopt).status()));
}

// A key of zeros counts as none.
TEST_F(KeyFileTest, OneThatHoldsNothingIsRefused) {
  std::string text = Edited(Written(FixedKeyFile(), std::nullopt), "\"full\"", "\"cluster-only\"");
  text = Edited(text, ToBase64(FixedKeyFile().k_dedup), ToBase64(std::array<uint8_t, 32>{}));
  EXPECT_TRUE(absl::IsDataLoss(Read(text, std::nullopt).status()));
}

// A copy of JSON goes as deep as the JSON does, and the stack does not.
TEST_F(KeyFileTest, DeepNestingIsRefused) {
  std::string text = Written(FixedKeyFile(), std::nullopt);
  const size_t keys = text.find("\"keys\": ") + 8;
  constexpr size_t kDepth = 500'000;
  text = text.substr(0, keys) + std::string(kDepth, '[') + std::string(kDepth, ']') + ",\n";
  text += "  \"checksum\": \"" + ToHex(Sha256(AsBytes(text))) + "\"\n}\n";
  EXPECT_TRUE(absl::IsDataLoss(Read(text, std::nullopt).status()));
}

// A cluster's: the full one has no catalogue key, and one without content keys has none at all.
TEST_F(KeyFileTest, OfACluster) {
  KeyFile key = FixedKeyFile();
  key.catalogue_key = {};
  key.cluster = {Counting<CurvePublicKey>(0xa0), CountingArray<32>(0xc0),
                 Counting<CurvePublicKey>(0x60)};
  const auto full = Read(Written(key, std::nullopt), std::nullopt);
  ASSERT_TRUE(full.ok()) << full.status();
  ExpectSameKeys(*full, key);
  ASSERT_TRUE(full->cluster.has_value());
  EXPECT_EQ(full->cluster->public_key, key.cluster->public_key);
  EXPECT_EQ(full->cluster->secret_key, key.cluster->secret_key);
  EXPECT_EQ(full->cluster->coordinator, key.cluster->coordinator);

  ASSERT_TRUE(fs_.Remove("/k/written").ok());
  const std::string text = Written(MakeClusterOnly(key), std::nullopt);
  EXPECT_EQ(text, testing::GoldenText("key-file-cluster.json", text));
  for (const char* name : {"k_dedup", "domain", "root", "signing", "catalogue"}) {
    EXPECT_EQ(text.find(std::string("\"") + name + "_"), std::string::npos) << name;
  }
  const auto bare = Read(text, std::nullopt);
  ASSERT_TRUE(bare.ok()) << bare.status();
  EXPECT_FALSE(bare->can_read() || bare->can_ingest());
  EXPECT_EQ(bare->cluster->secret_key, key.cluster->secret_key);
  EXPECT_TRUE(absl::IsPermissionDenied(MakeIngestOnly(*bare).status()));
  // A role that says more than is there.
  EXPECT_TRUE(absl::IsDataLoss(Read(Edited(text, "cluster-only", "full"), std::nullopt).status()));
}

// What opens content makes nothing that readers take for ingested, and nobody who could.
TEST_F(KeyFileTest, AReadersHasNoKeyToSignWith) {
  const KeyFile full = FixedKeyFile();
  const auto reader = MakeReader(full, /*ingests=*/false);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE(reader->can_read());
  EXPECT_FALSE(reader->can_ingest());
  EXPECT_TRUE(absl::IsPermissionDenied(MakeIngestOnly(*reader).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(MakeReader(*reader, true).status()));
  EXPECT_TRUE(MakeReader(*reader, false).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(MakeReader(*MakeIngestOnly(full), false).status()));

  const std::string text = Written(*reader, std::nullopt);
  EXPECT_EQ(text, testing::GoldenText("key-file-reader.json", text));
  for (const char* name : {"root_private", "signing", "certificate"}) {
    EXPECT_EQ(text.find(name), std::string::npos) << name;
  }
  const auto read = Read(text, std::nullopt);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSameKeys(*read, *reader);
  for (const char* role : {"full", "ingest-only", "cluster-only"}) {
    EXPECT_TRUE(absl::IsDataLoss(
        Read(Edited(text, "\"reader\"", "\"" + std::string(role) + "\""), std::nullopt).status()))
        << role;
  }
}

TEST_F(KeyFileTest, AReadersThatIngestsHasASigningKeyOfItsOwn) {
  const KeyFile full = FixedKeyFile();
  const auto both = MakeReader(full, /*ingests=*/true);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_TRUE(both->can_read() && both->can_ingest());
  EXPECT_FALSE(both->root_private_key.has_value());
  EXPECT_NE(both->writer(), full.writer());
  EXPECT_TRUE(CheckCertificate(full, both->signing_key.public_key, both->certificate));
  EXPECT_TRUE(absl::IsPermissionDenied(MakeIngestOnly(*both).status()));
  const auto read = Read(Written(*both, std::nullopt), std::nullopt);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSameKeys(*read, *both);
}

// The root key alone, or with half of the rest, is no role.
TEST_F(KeyFileTest, ARootKeyOutsideAFullFileIsRefused) {
  for (const bool reads : {false, true}) {
    KeyFile key = FixedKeyFile();
    if (reads) {
      key.signing_key = {};
      key.certificate.clear();
    } else {
      key.domain_private_key.reset();
    }
    const std::string text = Written(key, std::nullopt);
    ASSERT_TRUE(fs_.Remove("/k/written").ok());
    for (const char* role : {"full", "reader", "ingest-only"}) {
      const std::string edited =
          Edited(text, "\"role\": \"\"", "\"role\": \"" + std::string(role) + "\"");
      EXPECT_TRUE(absl::IsDataLoss(Read(edited, std::nullopt).status())) << role << reads;
    }
  }
}

TEST_F(KeyFileTest, SaysWhetherItWantsAPassphrase) {
  SimRng rng(1);
  ASSERT_TRUE(WriteKeyFile(fs_, "/k/clear", FixedKeyFile(), std::nullopt, rng).ok());
  ASSERT_TRUE(WriteKeyFile(fs_, "/k/wrapped", FixedKeyFile(), "secret", rng).ok());
  EXPECT_FALSE(*KeyFileNeedsPassphrase(fs_, "/k/clear"));
  EXPECT_TRUE(*KeyFileNeedsPassphrase(fs_, "/k/wrapped"));
  EXPECT_TRUE(absl::IsNotFound(KeyFileNeedsPassphrase(fs_, "/k/none").status()));
  EXPECT_TRUE(absl::IsNotFound(ReadKeyFile(fs_, "/k/none", std::nullopt).status()));
}

TEST_F(KeyFileTest, WrappedFileHoldsNoKeyInClear) {
  const std::string text = Written(FixedKeyFile(), "a passphrase");
  EXPECT_EQ(text.find(ToBase64(FixedKeyFile().k_dedup)), std::string::npos);
  EXPECT_EQ(text.find("signing"), std::string::npos);
}

TEST_F(KeyFileTest, DamageIsRefused) {
  const std::string text = Written(FixedKeyFile(), std::nullopt);
  const auto read = [&](Bytes bytes) { return Read(AsView(bytes), std::nullopt); };
  testing::ExpectFlipsRefused(AsBytes(text), read);
  testing::ExpectTruncationsRefused(AsBytes(text), read);
  EXPECT_TRUE(absl::IsDataLoss(read(AsBytes(text + " ")).status()));
  const std::string message = Message(read(AsBytes("{}")).status());
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_NE(message.find("/k/read"), std::string::npos) << message;
}

TEST_F(KeyFileTest, OtherVersionsAreRefusedByName) {
  const std::string text = Written(FixedKeyFile(), "p");
  testing::ExpectRefusedByName(Read(Edited(text, "\"version\": 1", "\"version\": 7"), "p").status(),
                               "key file version 7");
  testing::ExpectRefusedByName(Read(Edited(text, "\"suite\": 1", "\"suite\": 3"), "p").status(),
                               "suite 3");
  testing::ExpectRefusedByName(Read(Edited(text, "n=65536", "n=9999999"), "p").status(),
                               "scrypt n=9999999");
}

TEST_F(KeyFileTest, KeysThatDoNotFitTogetherAreRefused) {
  KeyFile mixed = FixedKeyFile();
  mixed.signing_key = GenerateKeyPair();  // Not what the certificate names.
  EXPECT_TRUE(absl::IsDataLoss(Read(Written(mixed, std::nullopt), std::nullopt).status()));
  ASSERT_TRUE(fs_.Remove("/k/written").ok());
  mixed = FixedKeyFile();
  mixed.domain_public_key = GenerateKeyPair().public_key;
  EXPECT_TRUE(absl::IsDataLoss(Read(Written(mixed, std::nullopt), std::nullopt).status()));
  ASSERT_TRUE(fs_.Remove("/k/written").ok());
  const std::string wrapped = Written(FixedKeyFile(), "p");
  EXPECT_TRUE(absl::IsPermissionDenied(
      Read(Edited(wrapped, "\"role\": \"full\"", "\"role\": \"ingest-only\""), "p").status()));
}

TEST_F(KeyFileTest, NeverOverwrites) {
  SimRng rng(1);
  ASSERT_TRUE(WriteKeyFile(fs_, "/k/a", FixedKeyFile(), std::nullopt, rng).ok());
  const std::string before = Text("/k/a");
  const auto other = GenerateKeyFile(rng, Counting<VaultId>(1));
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(WriteKeyFile(fs_, "/k/a", *other, std::nullopt, rng)));
  EXPECT_EQ(Text("/k/a"), before);
}

TEST_F(KeyFileTest, GeneratedKeysSurviveTheFile) {
  SimRng rng(7);
  const auto key = GenerateKeyFile(rng, Counting<VaultId>(1));
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_TRUE(key->can_read());
  const auto read = Read(Written(*key, std::nullopt), std::nullopt);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSameKeys(*read, *key);
  EXPECT_EQ(read->writer(), key->writer());
}

TEST_F(KeyFileTest, IngestOnlyKeyCannotReadButIsCertified) {
  const KeyFile full = FixedKeyFile();
  const auto ingest = MakeIngestOnly(full);
  ASSERT_TRUE(ingest.ok()) << ingest.status();
  EXPECT_FALSE(ingest->can_read());
  EXPECT_FALSE(ingest->root_private_key.has_value());
  EXPECT_NE(ingest->writer(), full.writer());
  EXPECT_TRUE(CheckCertificate(full, ingest->signing_key.public_key, ingest->certificate));
  EXPECT_FALSE(CheckCertificate(full, full.signing_key.public_key, ingest->certificate));
  KeyFile other_domain = full;
  other_domain.domain = Counting<DomainId>(0x21);
  EXPECT_FALSE(CheckCertificate(other_domain, ingest->signing_key.public_key, ingest->certificate));
  EXPECT_TRUE(absl::IsPermissionDenied(MakeIngestOnly(*ingest).status()));

  const std::string text = Written(*ingest, std::nullopt);
  EXPECT_EQ(text.find("domain_private_key"), std::string::npos);
  EXPECT_EQ(text.find("root_private_key"), std::string::npos);
  const auto read = Read(text, std::nullopt);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->can_read());

  const auto box = SealToPublicKey(ingest->domain_public_key, {}, AsBytes("sealing key"));
  ASSERT_TRUE(box.ok());
  EXPECT_TRUE(
      OpenWithPrivateKey({full.domain_public_key, *full.domain_private_key}, {}, *box).ok());
  EXPECT_FALSE(OpenWithPrivateKey(ingest->signing_key, {}, *box).ok());
}

}  // namespace
}  // namespace holdfast

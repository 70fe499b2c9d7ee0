#include "common/format/catalogue_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/rng.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Counting;
using testing::CountingArray;
using testing::Golden;
using testing::Hex;

const AeadKey kCommitKey = CountingArray<32>(0xe0);
const AeadNonce kNonce = CountingArray<12>(0x01);
const VaultId kVault = Counting<VaultId>(0x10);

CollectionRow FixedCollection() {
  return {.number = 7, .domain = Counting<DomainId>(0x20), .created_nanos = 1'700'000'000'000};
}
ObjectRow FixedObject() {
  return {.commit_number = 19,
          .leaf_index = 4,
          .version_number = 2,
          .commit_nanos = 1'700'000'000'001,
          .manifest = Hex("3a21fe57")};
}
SessionRow FixedSession() {
  return {.epoch = 6,
          .state = SessionState::kDone,
          .opened_nanos = 1'700'000'000'002,
          .last_request = "request of 16 by",
          .last_answer = "answer"};
}
SealingKeyRow FixedSealingKey() {
  return {.domain = Counting<DomainId>(0x20), .box = Hex("04b0c5")};
}
SignatureRow FixedSignature() {
  return {.signer_public_key = Hex("04aa"),
          .certificate = Hex("3046ce"),
          .signature = Hex("3045"),
          .leaves = {CountingArray<32>(0x30), CountingArray<32>(0x31)}};
}
OutboxRow FixedOutbox() {
  return {.generation = 2,
          .previous = CountingArray<32>(0x40),
          .time_nanos = 1'700'000'000'003,
          .epoch = 6,
          .nonce = kNonce,
          .keys = {"ccase", ObjectKey(7, "a", 1)}};
}

// What holds for every kind of row: the golden bytes decode to what encodes to them, every
// truncation and an added byte are refused, another version is refused by name.
template <class Row, class Decode>
Row CheckRow(const std::string& name, const std::string& what, const Row& row,
             const Decode& decode_text) {
  const auto decode = [&](Bytes bytes) { return decode_text(AsView(bytes)); };
  const Buffer golden = Golden(name, AsBytes(Encode(row)));
  const auto decoded = decode(golden);
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  if (!decoded.ok()) return {};
  EXPECT_EQ(Encode(*decoded), ToString(golden));
  testing::ExpectTruncationsRefused(golden, decode);
  testing::ExpectChangesSurvived(golden, decode);
  Buffer changed = golden;
  changed.push_back(0);
  EXPECT_TRUE(absl::IsDataLoss(decode(changed).status()));
  changed = golden;
  changed[0] = 7;
  testing::ExpectRefusedByName(decode(changed).status(), what + " version 7");
  return *decoded;
}

TEST(Rows, Collection) {
  const auto row =
      CheckRow("row-collection", "collection row", FixedCollection(), DecodeCollectionRow);
  EXPECT_EQ(row.number, 7u);
  EXPECT_EQ(row.domain, FixedCollection().domain);
  EXPECT_EQ(row.created_nanos, FixedCollection().created_nanos);
}

TEST(Rows, Object) {
  const auto row = CheckRow("row-object", "object row", FixedObject(), DecodeObjectRow);
  EXPECT_EQ(row.commit_number, 19u);
  EXPECT_EQ(row.leaf_index, 4u);
  EXPECT_EQ(row.version_number, 2u);
  EXPECT_EQ(row.commit_nanos, FixedObject().commit_nanos);
  EXPECT_EQ(row.manifest, FixedObject().manifest);
}

// A row that was not removed is as it was before there was a removal.
TEST(Rows, RemovedObject) {
  ObjectRow removed = FixedObject();
  removed.removed_nanos = 1'700'000'000'005;
  const auto row = CheckRow("row-object-removed", "object row", removed, DecodeObjectRow);
  EXPECT_EQ(row.removed_nanos, removed.removed_nanos);
  EXPECT_EQ(row.version_number, 2u);
  EXPECT_EQ(row.manifest, FixedObject().manifest);
  EXPECT_EQ(DecodeObjectRow(Encode(FixedObject()))->removed_nanos, 0);
  std::string never = Encode(removed);
  std::fill(never.end() - 8, never.end(), '\0');
  EXPECT_TRUE(absl::IsDataLoss(DecodeObjectRow(never).status())) << "removed, and never";
  std::string unknown = Encode(removed);
  unknown[0] = 0;
  testing::ExpectRefusedByName(DecodeObjectRow(unknown).status(), "object row version 0");
}

TEST(Rows, Removed) {
  EXPECT_TRUE(CheckRemovedRow(EncodeRemovedRow()).ok());
  EXPECT_EQ(ToHex(AsBytes(EncodeRemovedRow())), "01");
  EXPECT_TRUE(absl::IsDataLoss(CheckRemovedRow("")));
  EXPECT_TRUE(absl::IsDataLoss(CheckRemovedRow("\x01x")));
  testing::ExpectRefusedByName(CheckRemovedRow("\x07"), "row of what was removed version 7");
}

TEST(Rows, Session) {
  const auto row = CheckRow("row-session", "session row", FixedSession(), DecodeSessionRow);
  EXPECT_EQ(row.epoch, 6u);
  EXPECT_EQ(row.state, SessionState::kDone);
  EXPECT_EQ(row.opened_nanos, FixedSession().opened_nanos);
  EXPECT_EQ(row.last_request, FixedSession().last_request);
  EXPECT_EQ(row.last_answer, FixedSession().last_answer);
  std::string unknown = Encode(FixedSession());
  unknown[9] = 9;
  EXPECT_TRUE(absl::IsDataLoss(DecodeSessionRow(unknown).status()));
}

TEST(Rows, SealingKey) {
  const auto row =
      CheckRow("row-sealing-key", "sealing key row", FixedSealingKey(), DecodeSealingKeyRow);
  EXPECT_EQ(row.domain, FixedSealingKey().domain);
  EXPECT_EQ(row.box, FixedSealingKey().box);
  std::string unknown = Encode(FixedSealingKey());
  unknown[1] = 3;
  testing::ExpectRefusedByName(DecodeSealingKeyRow(unknown).status(), "sealing key row suite 3");
}

TEST(Rows, Signature) {
  const auto row = CheckRow("row-signature", "signature row", FixedSignature(), DecodeSignatureRow);
  EXPECT_EQ(row.signer_public_key, FixedSignature().signer_public_key);
  EXPECT_EQ(row.certificate, FixedSignature().certificate);
  EXPECT_EQ(row.signature, FixedSignature().signature);
  EXPECT_EQ(row.leaves, FixedSignature().leaves);
}

TEST(Rows, Outbox) {
  const auto row = CheckRow("row-outbox", "outbox row", FixedOutbox(), DecodeOutboxRow);
  EXPECT_EQ(row.generation, 2u);
  EXPECT_EQ(row.previous, FixedOutbox().previous);
  EXPECT_EQ(row.time_nanos, FixedOutbox().time_nanos);
  EXPECT_EQ(row.epoch, 6u);
  EXPECT_EQ(row.nonce, kNonce);
  EXPECT_EQ(row.keys, FixedOutbox().keys);
  // A record that is there and empty: a second form of the same row.
  const std::string longer = Encode(FixedOutbox()) + std::string(4, '\0');
  EXPECT_TRUE(absl::IsDataLoss(DecodeOutboxRow(longer).status()));
}

TEST(Rows, Principal) {
  const PrincipalRow fixed = {
      .roles = 3, .revoked = true, .added_nanos = 1'700'000'000'004, .name = "field unit 4"};
  const auto row = CheckRow("row-principal", "principal row", fixed, DecodePrincipalRow);
  EXPECT_EQ(row.roles, 3u);
  EXPECT_TRUE(row.revoked);
  EXPECT_EQ(row.added_nanos, fixed.added_nanos);
  EXPECT_EQ(row.name, fixed.name);
}

TEST(Keys, ObjectKeyGolden) {
  const std::string name("a\0b\xff", 4);
  const std::string key = ObjectKey(7, name, 2);
  Golden("object-key", AsBytes(key));
  const auto parsed = ParseObjectKey(key);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->collection, 7u);
  EXPECT_EQ(parsed->name, name);
  EXPECT_EQ(parsed->version_number, 2u);
  for (size_t n = 0; n < key.size(); ++n) {
    EXPECT_TRUE(absl::IsDataLoss(ParseObjectKey(std::string_view(key).substr(0, n)).status()));
  }
  EXPECT_FALSE(ParseObjectKey(key + "x").ok());
  EXPECT_FALSE(ParseObjectKey(CollectionKey("case")).ok());
}

TEST(Keys, RemovedKeyGolden) {
  const std::string object = ObjectKey(7, std::string("a\0b\xff", 4), 2);
  const std::string key = RemovedKey(1'700'000'000'005, object);
  Golden("removed-key", AsBytes(key));
  const auto parsed = ParseRemovedKey(key);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->removed_nanos, 1'700'000'000'005);
  EXPECT_EQ(parsed->object_key, object);
  for (size_t n = 0; n < key.size(); ++n) {
    EXPECT_TRUE(absl::IsDataLoss(ParseRemovedKey(std::string_view(key).substr(0, n)).status()));
  }
  EXPECT_FALSE(ParseRemovedKey(object).ok());
  EXPECT_LT(RemovedKey(1, ObjectKey(9, "z", 1)), RemovedKey(2, ObjectKey(1, "a", 1)));
  EXPECT_LT(RemovedKey(255, object), RemovedKey(256, object));
}

std::vector<std::string> TrickyNames() {
  std::vector<std::string> names = {"a", "ab", "b", "a/b", "a.b", "\xff", "\xff\xff", "\x01"};
  const std::string alphabet(
      "\x00\x01\x02\xfe\xff"
      "a",
      6);
  SimRng rng(3);
  for (int i = 0; i < 300; ++i) {
    std::string name;
    for (uint64_t n = 1 + rng.Below(5); n > 0; --n) name += alphabet[rng.Below(alphabet.size())];
    names.push_back(name);
  }
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
      return static_cast<uint8_t>(x) < static_cast<uint8_t>(y);
    });
  });
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

TEST(Keys, SortAsNamesDoAndNewestVersionFirst) {
  const std::vector<std::string> names = TrickyNames();
  std::string previous;
  for (const std::string& name : names) {
    for (const uint64_t version : {300u, 2u, 1u}) {
      const std::string key = ObjectKey(7, name, version);
      EXPECT_LT(previous, key) << ToHex(AsBytes(name));
      EXPECT_EQ(ParseObjectKey(key)->name, name);
      EXPECT_LE(ObjectNameBegin(7, name), key);
      EXPECT_LT(key, ObjectNameEnd(7, name));
      previous = key;
    }
  }
}

TEST(Keys, RangesHoldExactlyWhatTheySay) {
  const std::vector<std::string> names = TrickyNames();
  std::vector<std::string> prefixes = names;
  prefixes.push_back("");
  for (const std::string& prefix : prefixes) {
    const std::string begin = ObjectPrefixBegin(7, prefix), end = ObjectPrefixEnd(7, prefix);
    for (const std::string& name : names) {
      const std::string key = ObjectKey(7, name, 1);
      EXPECT_EQ(begin <= key && key < end, name.starts_with(prefix))
          << ToHex(AsBytes(prefix)) << " " << ToHex(AsBytes(name));
      EXPECT_EQ(ObjectNameBegin(7, prefix) <= key && key < ObjectNameEnd(7, prefix),
                name == prefix);
    }
    EXPECT_GT(ObjectKey(8, "\x01", 1), end);
    EXPECT_LT(ObjectKey(6, "\xff", 1), begin);
  }
}

TEST(Keys, LastCollectionNumberHasAnEnd) {
  EXPECT_LT(ObjectKey(UINT64_MAX, "\xff\xff", 1), ObjectPrefixEnd(UINT64_MAX, ""));
}

TEST(Keys, OtherKinds) {
  EXPECT_EQ(CollectionKey("case"), "ccase");
  EXPECT_EQ(MetaKey("vault"), "mvault");
  EXPECT_EQ(ToHex(AsBytes(SignatureKey(258))), "620000000000000102");
  EXPECT_EQ(ToHex(AsBytes(OutboxKey(258))), "780000000000000102");
  const auto session = Counting<SessionId>(0x10);
  EXPECT_EQ(ToHex(AsBytes(SessionKey(session))), "73" + session.hex());
  const auto principal = Counting<CurvePublicKey>(0x10);
  EXPECT_EQ(ToHex(AsBytes(PrincipalKey(principal))), "70" + principal.hex());
  EXPECT_EQ(ParsePrincipalKey(PrincipalKey(principal)), principal);
  EXPECT_TRUE(ParsePrincipalKey(CollectionKey("case")).is_zero());
  const auto sealing = Counting<SealingKeyId>(0x10);
  EXPECT_EQ(ToHex(AsBytes(SealingKeyKey(sealing))), "6b" + sealing.hex());
}

CommitRecord FixedCommit() {
  return {.generation = 2,
          .number = 9,
          .previous = CountingArray<32>(0x21),
          .time_nanos = 1'700'000'000'003,
          .epoch = 6,
          .mutations = {{CollectionKey("case"), Encode(FixedCollection())},
                        {SessionKey(Counting<SessionId>(0x10)), std::nullopt},
                        {MetaKey("empty"), ""}}};
}

TEST(CommitRecord, Golden) {
  const Buffer golden =
      Golden("commit-record", EncodeCommitRecord(kCommitKey, kVault, FixedCommit(), kNonce));
  const auto decode = [](Bytes bytes) { return DecodeCommitRecord(kCommitKey, kVault, bytes); };
  const auto decoded = decode(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const CommitRecord expected = FixedCommit();
  EXPECT_EQ(decoded->generation, expected.generation);
  EXPECT_EQ(decoded->number, expected.number);
  EXPECT_EQ(decoded->previous, expected.previous);
  EXPECT_EQ(decoded->time_nanos, expected.time_nanos);
  EXPECT_EQ(decoded->epoch, expected.epoch);
  ASSERT_EQ(decoded->mutations.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(decoded->mutations[i].key, expected.mutations[i].key);
    EXPECT_EQ(decoded->mutations[i].value, expected.mutations[i].value);
  }
  testing::ExpectFlipsRefused(golden, decode);
  testing::ExpectTruncationsRefused(golden, decode);
}

TEST(CommitRecord, OtherVersionsKeysAndVaultsAreRefused) {
  const Buffer stored = EncodeCommitRecord(kCommitKey, kVault, FixedCommit(), kNonce);
  const auto with = [&](size_t offset, uint8_t value) {
    Buffer changed = stored;
    changed[offset] = value;
    return DecodeCommitRecord(kCommitKey, kVault, changed).status();
  };
  testing::ExpectRefusedByName(with(8, 7), "commit record version 7");
  testing::ExpectRefusedByName(with(9, 3), "commit record suite 3");
  EXPECT_TRUE(absl::IsDataLoss(DecodeCommitRecord(CountingArray<32>(1), kVault, stored).status()));
  EXPECT_TRUE(
      absl::IsDataLoss(DecodeCommitRecord(kCommitKey, Counting<VaultId>(1), stored).status()));
}

TEST(CommitRecord, WhatOpensIsStillParsedWithCare) {
  const Buffer stored = EncodeCommitRecord(kCommitKey, kVault, FixedCommit(), kNonce);
  constexpr size_t kHead = 8 + 1 + 1 + 16 + 8 + 8;
  const Bytes head = Bytes(stored).first(kHead);
  const auto body = AeadOpenWithNonce(kCommitKey, head, Bytes(stored).subspan(kHead), "");
  ASSERT_TRUE(body.ok()) << body.status();
  const auto decode = [&](Bytes bytes) {
    const Buffer box = AeadSealWithNonce(kCommitKey, kNonce, head, bytes);
    Buffer record(head.begin(), head.end());
    record.insert(record.end(), box.begin(), box.end());
    return DecodeCommitRecord(kCommitKey, kVault, record);
  };
  ASSERT_TRUE(decode(*body).ok());
  testing::ExpectTruncationsRefused(*body, decode);
  testing::ExpectChangesSurvived(*body, decode);
}

TEST(Derivations, AgreeWithPython) {
  std::ifstream in(testing::GoldenPath("independent.json"));
  const auto v = nlohmann::json::parse(in)["names"];
  EXPECT_EQ(CommitRecordId(kVault, 2, 9).hex(), v["commit_record_id"].get<std::string>());
  const CatalogueKeys keys = DeriveCatalogueKeys(CountingArray<32>(0x80));
  EXPECT_EQ(ToHex(keys.rows), v["catalogue_rows"].get<std::string>());
  EXPECT_EQ(ToHex(keys.commit), v["catalogue_commit"].get<std::string>());
  EXPECT_EQ(ToHex(keys.parts), v["catalogue_parts"].get<std::string>());
}

}  // namespace
}  // namespace holdfast

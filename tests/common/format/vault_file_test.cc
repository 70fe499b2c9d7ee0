#include "common/format/vault_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/crypto/checked_json.h"
#include "common/io/sim_fs.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Counting;
using testing::CountingArray;

VaultFile FixedVault() {
  VaultFile vault;
  vault.vault = Counting<VaultId>(0x10);
  vault.domain = Counting<DomainId>(0x20);
  vault.chunk_size = 256 * 1024;
  vault.replicas = 2;
  vault.created_nanos = 1'700'000'000'000'000'000;
  vault.nodes = {{Counting<NodeId>(0x30), "nodes/0"},
                 {Counting<NodeId>(0x31), "/mnt/d\xc3\xa9p\xc3\xb4t \"2\""},
                 {Counting<NodeId>(0x32), "/mnt/d\xe9p\xf4t"}};
  vault.key_check = MakeKeyCheck(CountingArray<32>(0x80), vault.vault);
  return vault;
}

class VaultFileTest : public ::testing::Test {
 protected:
  VaultFileTest() { EXPECT_TRUE(fs_.CreateDir("/v").ok()); }
  StatusOr<VaultFile> Read(std::string_view text) {
    EXPECT_TRUE(WriteFileAtomically(fs_, "/v/vault", AsBytes(text)).ok());
    return ReadVaultFile(fs_, "/v");
  }
  std::string Written(const VaultFile& vault) {
    EXPECT_TRUE(WriteVaultFile(fs_, "/v", vault).ok());
    return ToString(*ReadFile(fs_, "/v/vault"));
  }
  SimFs fs_{1};
};

TEST_F(VaultFileTest, Golden) {
  const std::string text = Written(FixedVault());
  const std::string golden = testing::GoldenText("vault-file.json", text);
  EXPECT_EQ(golden, text);
  const auto vault = Read(golden);
  ASSERT_TRUE(vault.ok()) << vault.status();
  const VaultFile expected = FixedVault();
  EXPECT_EQ(vault->vault, expected.vault);
  EXPECT_EQ(vault->domain, expected.domain);
  EXPECT_EQ(vault->chunk_size, expected.chunk_size);
  EXPECT_EQ(vault->replicas, expected.replicas);
  EXPECT_EQ(vault->created_nanos, expected.created_nanos);
  EXPECT_EQ(vault->key_check, expected.key_check);
  ASSERT_EQ(vault->nodes.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(vault->nodes[i].id, expected.nodes[i].id);
    EXPECT_EQ(vault->nodes[i].path, expected.nodes[i].path);
  }
  EXPECT_NE(text.find("path_b64"), std::string::npos);
}

TEST_F(VaultFileTest, DamageIsOneLineOfDataLoss) {
  const std::string text = Written(FixedVault());
  const auto read = [&](Bytes bytes) { return Read(AsView(bytes)); };
  testing::ExpectFlipsRefused(AsBytes(text), read);
  testing::ExpectTruncationsRefused(AsBytes(text), read);
  const Status status = Read(text.substr(0, 50)).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(Message(status).find('\n'), std::string::npos);
  EXPECT_NE(Message(status).find("/v/vault"), std::string::npos);
}

TEST_F(VaultFileTest, NoVault) {
  const Status status = ReadVaultFile(fs_, "/v").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_NE(Message(status).find("/v"), std::string::npos);
}

TEST_F(VaultFileTest, OtherVersionsAndOddValuesAreRefused) {
  const auto edited = [&](const char* member, const Json& value) {
    Json body = Json::parse(Written(FixedVault()));
    body.erase("checksum");
    body[member] = value;
    return Read(EncodeCheckedJson(body)).status();
  };
  testing::ExpectRefusedByName(edited("version", 7), "holdfast vault version 7");
  EXPECT_TRUE(absl::IsDataLoss(edited("format", "holdfast key file")));
  EXPECT_TRUE(absl::IsDataLoss(edited("version", "1")));
  EXPECT_TRUE(absl::IsDataLoss(edited("chunk_size", 0)));
  EXPECT_TRUE(absl::IsDataLoss(edited("chunk_size", -1)));
  EXPECT_TRUE(absl::IsDataLoss(edited("chunk_size", 300'000)));
  EXPECT_TRUE(absl::IsDataLoss(edited("replicas", 0)));
  EXPECT_TRUE(absl::IsDataLoss(edited("nodes", 5)));
  EXPECT_TRUE(absl::IsDataLoss(edited("nodes", Json::array({1}))));
  EXPECT_TRUE(absl::IsDataLoss(edited("vault", "10")));
  EXPECT_TRUE(absl::IsDataLoss(edited("key_check", nullptr)));
}

TEST_F(VaultFileTest, RefusesToWriteAnImpossibleChunkSize) {
  VaultFile vault = FixedVault();
  vault.chunk_size = 100'000;
  EXPECT_TRUE(absl::IsInvalidArgument(WriteVaultFile(fs_, "/v", vault)));
}

TEST(KeyCheck, TellsKeysApart) {
  const VaultFile vault = FixedVault();
  EXPECT_TRUE(CheckKey(vault, CountingArray<32>(0x80)));
  EXPECT_FALSE(CheckKey(vault, CountingArray<32>(0x81)));
  VaultFile other = vault;
  other.vault = Counting<VaultId>(0x11);
  EXPECT_FALSE(CheckKey(other, CountingArray<32>(0x80)));
  other = vault;
  other.key_check.clear();
  EXPECT_FALSE(CheckKey(other, CountingArray<32>(0x80)));
  std::ifstream in(testing::GoldenPath("independent.json"));
  EXPECT_EQ(ToHex(vault.key_check),
            nlohmann::json::parse(in)["names"]["key_check"].get<std::string>());
}

}  // namespace
}  // namespace holdfast

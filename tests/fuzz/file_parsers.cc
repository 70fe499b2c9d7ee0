// Files of JSON, and texts.
#include "common/base/text.h"
#include "common/crypto/checked_json.h"
#include "common/crypto/hmac.h"
#include "common/crypto/key_file.h"
#include "common/format/vault_file.h"
#include "common/io/sim_fs.h"
#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {
namespace {

std::string Tail(Bytes head) { return "  \"checksum\": \"" + ToHex(Sha256(head)) + "\"\n}\n"; }

// Inputs are such files without their last member.
Buffer Head(Bytes golden) { return ToBuffer(golden.first(golden.size() - Tail({}).size())); }

Buffer Closed(Bytes head) {
  Buffer file = ToBuffer(head);
  Append(file, AsBytes(Tail(head)));
  return file;
}

void Put(SimFs& fs, const std::string& path, Bytes bytes) {
  Must(WriteFileAtomically(fs, path, bytes).ok(), "write");
}

void VaultFileParser(Bytes input) {
  SimFs fs(1);
  Must(fs.CreateDir("/vault").ok(), "make");
  Put(fs, "/vault/vault", input);
  (void)ReadVaultFile(fs, "/vault");
  Put(fs, "/vault/vault", Closed(input));
  const auto vault = ReadVaultFile(fs, "/vault");
  if (!vault.ok()) return;
  Must(WriteVaultFile(fs, "/vault", *vault).ok(), "what is read can be written");
  const Buffer written = ReadFile(fs, "/vault/vault").value();
  const auto again = ReadVaultFile(fs, "/vault");
  Must(again.ok() && WriteVaultFile(fs, "/vault", *again).ok(), "a vault file comes back");
  Must(Same(ReadFile(fs, "/vault/vault").value(), written), "a vault file stays as it is");
}

void KeyFileParser(Bytes input) {
  SimFs fs(1);
  Put(fs, "/key", input);
  (void)KeyFileNeedsPassphrase(fs, "/key");
  Put(fs, "/key", Closed(input));
  const auto needs = KeyFileNeedsPassphrase(fs, "/key");
  if (!needs.ok()) return;
  // A passphrase costs 64 MiB and a quarter of a second.
  std::optional<std::string> passphrase;
  if (Crc32c(input) % 64 == 0) passphrase = "a passphrase";
  const auto key = ReadKeyFile(fs, "/key", passphrase);
  if (!key.ok()) return;
  SimRng rng(1);
  Must(WriteKeyFile(fs, "/again", *key, {}, rng).ok(), "what is read can be written");
  const Buffer written = ReadFile(fs, "/again").value();
  const auto again = ReadKeyFile(fs, "/again", {});
  Must(again.ok() && WriteKeyFile(fs, "/third", *again, {}, rng).ok(), "a key file comes back");
  Must(Same(ReadFile(fs, "/third").value(), written), "a key file stays as it is");
}

// Words for people, and from them.
void TextParser(Bytes input) {
  const std::string_view text = AsView(input);
  const std::string printable = Printable(text);
  Must(IsUtf8(printable) && printable.find('\n') == std::string::npos, "one line of text");
  Must(Printable(printable).size() >= printable.size(), "nothing is lost");
  uint64_t bytes = 0;
  if (ParseBytes(text, &bytes)) (void)FormatBytes(bytes);
  Buffer decoded;
  Must(FromBase64(ToBase64(input), decoded) && Same(decoded, input), "base64 comes back");
  if (FromBase64(text, decoded)) {
    Buffer again;
    Must(FromBase64(ToBase64(decoded), again) && again == decoded, "base64 stays");
  }
  Buffer unhexed(text.size() / 2);
  if (FromHex(text, unhexed)) Must(ToHex(unhexed).size() == text.size(), "hex has one length");
  Must(FromHex(ToHex(input), decoded = Buffer(input.size())) && Same(decoded, input), "hex");
}

std::vector<Buffer> TextSeeds() {
  std::vector<Buffer> seeds;
  for (const std::string_view text : {"512KiB", "18446744073709551615", "TGludXg=", "00ffab",
                                      "caf\xc3\xa9\n\\x00", "\xe2\x80\xae\xf0\x9f\x98\x80"}) {
    seeds.push_back(ToBuffer(AsBytes(text)));
  }
  return seeds;
}

}  // namespace

std::vector<Parser> FileParsers() {
  return {
      {"vault-file", VaultFileParser, Golden({"vault-file.json"}, Head)},
      {"key-file", KeyFileParser,
       Golden({"key-file.json", "key-file-cluster.json", "key-file-reader.json",
               "key-file-wrapped.json"},
              Head)},
      {"text", TextParser, TextSeeds},
  };
}

}  // namespace holdfast::fuzz

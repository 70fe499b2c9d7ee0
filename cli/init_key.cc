// init and key: making a vault and its keys.
#include <sys/stat.h>

#include <cstdio>
#include <map>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

// The passphrase for a key file about to be written: none, from a file, or asked for twice.
StatusOr<std::optional<std::string>> NewPassphrase(const Globals& globals, bool ask) {
  if (ask) return PromptPassphrase("New passphrase for the key file: ", true);
  if (globals.passphrase_file.empty()) return std::optional<std::string>();
  return ReadPassphraseFile(globals.passphrase_file);
}

// Each vault has a key of its own: under an old one it would be taken for another vault.
StatusOr<KeyFile> MakeKey(const Globals& globals, const InitArgs& args) {
  ASSIGN_OR_RETURN(bool exists, PosixFs().Exists(globals.key));
  if (exists) {
    return absl::InvalidArgumentError(Printable(globals.key) +
                                      " is there already: give a new path for the vault's key");
  }
  ASSIGN_OR_RETURN(KeyFile key, GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>()));
  ASSIGN_OR_RETURN(auto passphrase, NewPassphrase(globals, args.passphrase));
  RETURN_IF_ERROR(WriteKeyFile(PosixFs(), globals.key, key, passphrase, SecureRng()));
  return key;
}

// Two of the disks that are one file system.
std::optional<std::pair<std::string, std::string>> OneDiskTwice(
    const std::vector<std::string>& disks) {
  std::map<dev_t, std::string> seen;
  for (const std::string& disk : disks) {
    struct stat st;
    if (stat(disk.c_str(), &st) != 0) continue;
    auto [other, fresh] = seen.emplace(st.st_dev, disk);
    if (!fresh) return std::pair(other->second, disk);
  }
  return std::nullopt;
}

void SayWhatWasMade(const Globals& globals, const InitArgs& args, const InitOptions& options) {
  size_t nodes = options.nodes.empty() ? 1 : options.nodes.size();
  size_t replicas = options.replicas != 0 ? options.replicas : std::min<size_t>(2, nodes);
  bool wrapped = args.passphrase || !globals.passphrase_file.empty();
  std::fprintf(stderr, "Vault made in %s: %zu node%s, %zu %s of every chunk.\n",
               Printable(args.dir).c_str(), nodes, nodes == 1 ? "" : "s", replicas,
               replicas == 1 ? "copy" : "copies");
  if (replicas == 1) {
    std::fprintf(
        stderr, "One copy only: a lost disk loses data. Give --node DISK twice or more for two.\n");
  }
  if (auto same = OneDiskTwice(options.nodes)) {
    std::fprintf(stderr, "%s and %s lie on one file system: they are lost together.\n",
                 Printable(same->first).c_str(), Printable(same->second).c_str());
  }
  std::fprintf(
      stderr, "%s is the vault's key file, %s.\n", Printable(globals.key).c_str(),
      wrapped ? "wrapped under your passphrase" : "not wrapped: whoever reads it reads the vault");
  std::fprintf(stderr,
               "Without this key file the data is lost: nobody can open it, nor can we. "
               "Keep a copy of it somewhere else.\n");
}

}  // namespace

int RunInit(const Globals& globals, const InitArgs& args) {
  InitOptions options;
  options.dir = args.dir;
  options.nodes = args.nodes;
  options.replicas = args.replicas;
  const StatusOr<uint32_t> chunk_size = ParseChunkSize(args.chunk_size);
  if (!chunk_size.ok()) return Fail(chunk_size.status());
  options.chunk_size = *chunk_size;
  if (globals.key.empty()) {
    return Fail("where shall the key go? give --key FILE or set HOLDFAST_KEY", kExitUsage);
  }
  auto exists = PosixFs().Exists(args.dir + "/vault");
  if (exists.ok() && *exists)
    return Fail(Printable(args.dir) + " holds a vault already", kExitFailed);
  auto key = MakeKey(globals, args);
  if (!key.ok()) return Fail(key.status());
  Status status = EmbeddedVault::Init(options, *key);
  if (!status.ok()) {
    (void)PosixFs().Remove(globals.key);  // It opens nothing.
    return Fail(status);
  }
  SayWhatWasMade(globals, args, options);
  return kExitOk;
}

int RunKeyExport(const Globals& globals, const KeyExportArgs& args) {
  if (!args.ingest_only) {
    return Fail("key export: give --ingest-only (a full key file is copied as a file)", kExitUsage);
  }
  auto full = LoadKey(globals);
  if (!full.ok()) return Fail(full.status());
  auto ingest_only = MakeIngestOnly(*full);
  if (!ingest_only.ok()) return Fail(ingest_only.status());
  std::optional<std::string> passphrase;
  if (args.passphrase) {
    auto asked = PromptPassphrase("New passphrase for " + args.out + ": ", true);
    if (!asked.ok()) return Fail(asked.status());
    passphrase = *asked;
  } else if (!args.out_passphrase_file.empty()) {
    auto read = ReadPassphraseFile(args.out_passphrase_file);
    if (!read.ok()) return Fail(read.status());
    passphrase = *read;
  }
  Status status = WriteKeyFile(PosixFs(), args.out, *ingest_only, passphrase, SecureRng());
  if (!status.ok()) return Fail(status);
  std::fprintf(stderr, "%s ingests, deduplicates and lists names; it cannot read content.\n",
               Printable(args.out).c_str());
  if (!passphrase) {
    std::fprintf(stderr,
                 "It is not wrapped: whoever reads it can ingest, list names, and tell "
                 "whether a known file is stored. --passphrase wraps it.\n");
  }
  return kExitOk;
}

}  // namespace holdfast::cli

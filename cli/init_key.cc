// init and key: making a vault and its keys.
#include <cstdio>

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

StatusOr<KeyFile> LoadOrMakeKey(const Globals& globals, const InitArgs& args, bool* made) {
  ASSIGN_OR_RETURN(bool exists, PosixFs().Exists(globals.key));
  *made = !exists;
  if (exists) return LoadKey(globals);
  ASSIGN_OR_RETURN(KeyFile key, GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>()));
  ASSIGN_OR_RETURN(auto passphrase, NewPassphrase(globals, args.passphrase));
  RETURN_IF_ERROR(WriteKeyFile(PosixFs(), globals.key, key, passphrase, SecureRng()));
  return key;
}

void SayWhatWasMade(const Globals& globals, const InitArgs& args, const InitOptions& options,
                    bool key_made) {
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
  std::fprintf(stderr, "%s is %s%s.\n", Printable(globals.key).c_str(),
               key_made ? "the vault's new key file" : "the vault's key file",
               !key_made ? ""
               : wrapped ? ", wrapped under your passphrase"
                         : ", not wrapped: whoever reads it reads the vault");
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
  uint64_t chunk_size = 0;
  if (!ParseBytes(args.chunk_size, &chunk_size) || chunk_size < (64u << 10) ||
      chunk_size > (4u << 20) || (chunk_size & (chunk_size - 1)) != 0) {
    return Fail("--chunk-size " + args.chunk_size + ": give a power of two from 64KiB to 4MiB",
                kExitUsage);
  }
  options.chunk_size = static_cast<uint32_t>(chunk_size);
  if (globals.key.empty()) {
    return Fail("where shall the key go? give --key FILE or set HOLDFAST_KEY", kExitUsage);
  }
  auto exists = PosixFs().Exists(args.dir + "/vault");
  if (exists.ok() && *exists)
    return Fail(Printable(args.dir) + " holds a vault already", kExitFailed);
  bool key_made = false;
  auto key = LoadOrMakeKey(globals, args, &key_made);
  if (!key.ok()) return Fail(key.status());
  Status status = EmbeddedVault::Init(options, *key);
  if (!status.ok()) {
    if (key_made) (void)PosixFs().Remove(globals.key);  // It opens nothing.
    return Fail(status);
  }
  SayWhatWasMade(globals, args, options, key_made);
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
  }
  Status status = WriteKeyFile(PosixFs(), args.out, *ingest_only, passphrase, SecureRng());
  if (!status.ok()) return Fail(status);
  std::fprintf(stderr, "%s ingests, deduplicates and lists names; it cannot read content.\n",
               Printable(args.out).c_str());
  return kExitOk;
}

}  // namespace holdfast::cli

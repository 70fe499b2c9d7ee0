// What every verb needs: global flags, opening the vault, one-line errors, passphrases.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cli/embedded.h"
#include "cli/exit_code.h"

namespace holdfast::cli {

struct Globals {
  std::string vault;            // --vault or HOLDFAST_VAULT
  std::string key;              // --key or HOLDFAST_KEY
  std::string passphrase_file;  // --passphrase-file
  bool json = false;
  bool quiet = false;
};

// Prints "holdfast: <message>" on stderr, as one line, and returns the code.
int Fail(const Status& status);
int Fail(const std::string& message, int exit_code);

// Asks twice on the terminal when `confirm`; kInvalidArgument when they differ or no terminal.
StatusOr<std::string> PromptPassphrase(const std::string& prompt, bool confirm);
// The first line of a file.
StatusOr<std::string> ReadPassphraseFile(const std::string& path);

// The key named by the globals; asks for a passphrase when the file wants one.
StatusOr<KeyFile> LoadKey(const Globals& globals);

// Whether the globals name a vault; prints why not and sets *exit_code otherwise.
bool FindVault(const Globals& globals, int* exit_code);

// Whether a vault is named by where its coordinator listens, and not by a directory.
bool IsEndpoint(const std::string& vault);

// Where damage was found: what may be done about it. On stdout.
void PrintRepairHint(const Globals& globals);

// Opens the vault named by the globals; prints why not, sets *exit_code and returns null otherwise.
// Warns on stderr of nodes that are away and of damage that recovery found. `brief`: what follows
// reads a little, and so may go through the process of another command that works on the vault.
std::unique_ptr<OpenedVault> OpenVault(const Globals& globals, int* exit_code, bool brief = false);

// "COLLECTION/NAME": the part before the first slash, and the rest.
struct ObjectPath {
  std::string collection;
  std::string name;
};
ObjectPath SplitPath(const std::string& path);

}  // namespace holdfast::cli

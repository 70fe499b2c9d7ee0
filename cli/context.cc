#include "cli/context.h"

#include <fcntl.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/remote.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

constexpr char kCtrlC = '\x03';

// Reads a line from the terminal without echo.
StatusOr<std::string> ReadSecretLine(int fd, const std::string& prompt) {
  termios saved{};
  if (tcgetattr(fd, &saved) != 0) return absl::UnavailableError("no terminal to ask on");
  termios silent = saved;
  // Ctrl-C is read as a character, one that ends the line, so that the terminal is set back first.
  silent.c_lflag &= ~static_cast<tcflag_t>(ECHO | ISIG);
  silent.c_cc[VEOL] = kCtrlC;
  tcsetattr(fd, TCSAFLUSH, &silent);
  (void)!write(fd, prompt.data(), prompt.size());
  std::string line;
  char c;
  bool interrupted = false;
  while (!interrupted && read(fd, &c, 1) == 1 && c != '\n') {
    interrupted = c == kCtrlC;
    line += c;
  }
  tcsetattr(fd, TCSAFLUSH, &saved);
  (void)!write(fd, "\n", 1);
  if (interrupted) {
    raise(SIGINT);
    return absl::CancelledError("interrupted at the passphrase");  // Where SIGINT is ignored.
  }
  return line;
}

// Nodes that are away, and damage that recovery met at this open: said by whatever command comes
// first, since a recovered log does not show it again.
void WarnOfNodes(OpenedVault& vault) {
  for (const auto& node : vault.nodes()) {
    if (node.open_status.ok()) continue;
    std::fprintf(stderr, "holdfast: warning: node %u is away: %s\n", node.number,
                 Printable(Message(node.open_status)).c_str());
  }
  for (const proto::Finding& finding : vault.RecoveryFindings()) {
    if (finding.class_() == proto::Finding::NOTE) continue;
    std::fprintf(stderr, "holdfast: warning: %s\n", Printable(finding.text()).c_str());
  }
}

std::unique_ptr<OpenedVault> OpenDirectory(const std::string& dir, const KeyFile& key, bool brief,
                                           OpenError* error) {
  std::unique_ptr<OpenedVault> vault = EmbeddedVault::Open(dir, key, !brief, error);
  if (vault || !brief || error->exit_code != kExitBusy) return vault;
  vault = RemoteVault::OpenDoor(dir, key);
  // Nobody there: the other command is at its end, or only just begins, or is brief too.
  return vault ? std::move(vault) : EmbeddedVault::Open(dir, key, !brief, error);
}

}  // namespace

int Fail(const std::string& message, int exit_code) {
  std::string line = message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "holdfast: %s\n", line.c_str());
  return exit_code;
}

int Fail(const Status& status) { return Fail(Message(status), ExitCodeOf(status)); }

StatusOr<std::string> PromptPassphrase(const std::string& prompt, bool confirm) {
  int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    return absl::PermissionDeniedError(
        "a passphrase is needed and there is no terminal: give --passphrase-file FILE");
  }
  auto first = ReadSecretLine(fd, prompt);
  StatusOr<std::string> result = first;
  if (first.ok() && confirm) {
    auto second = ReadSecretLine(fd, "The same again: ");
    if (second.ok() && *second != *first) {
      result = absl::InvalidArgumentError("the two passphrases differ");
    }
  }
  if (result.ok() && result->empty()) {
    result = absl::InvalidArgumentError("an empty passphrase protects nothing");
  }
  close(fd);
  return result;
}

StatusOr<std::string> ReadPassphraseFile(const std::string& path) {
  const StatusOr<Buffer> bytes = ReadFile(PosixFs(), path);
  if (!bytes.ok()) return absl::InvalidArgumentError(Message(bytes.status()));
  std::string text = ToString(*bytes);
  text = text.substr(0, text.find('\n'));
  if (text.empty()) return absl::InvalidArgumentError("no passphrase in " + Printable(path));
  return text;
}

StatusOr<KeyFile> LoadKey(const Globals& globals) {
  if (globals.key.empty()) {
    return absl::InvalidArgumentError("which key? give --key FILE or set HOLDFAST_KEY");
  }
  auto wants = KeyFileNeedsPassphrase(PosixFs(), globals.key);
  if (absl::IsNotFound(wants.status())) {
    return absl::PermissionDeniedError("no key file at " + Printable(globals.key));
  }
  if (!wants.ok()) return wants.status();
  std::optional<std::string> passphrase;
  if (*wants && !globals.passphrase_file.empty()) {
    ASSIGN_OR_RETURN(passphrase, ReadPassphraseFile(globals.passphrase_file));
  } else if (*wants) {
    ASSIGN_OR_RETURN(passphrase, PromptPassphrase("Passphrase of " + globals.key + ": ", false));
  }
  return ReadKeyFile(PosixFs(), globals.key, passphrase);
}

bool IsEndpoint(const std::string& vault) { return vault.find("://") != std::string::npos; }

void PrintRepairHint(const Globals& globals) {
  if (IsEndpoint(globals.vault)) return;  // Its nodes do that by themselves.
  std::printf("`holdfast fsck --repair` makes good what can be, from the vault's other disks.\n");
}

bool FindVault(const Globals& globals, int* exit_code) {
  if (globals.vault.empty()) {
    *exit_code = Fail("which vault? give --vault DIR or set HOLDFAST_VAULT", kExitUsage);
    return false;
  }
  if (IsEndpoint(globals.vault)) return true;
  // Before the key is asked for.
  auto there = ReadVaultFile(PosixFs(), globals.vault);
  if (absl::IsNotFound(there.status()) && !EmbeddedVault::HasParts(globals.vault)) {
    *exit_code = Fail("no vault at " + Printable(globals.vault) +
                          ": make one with `holdfast init`, or give --vault DIR",
                      kExitNoVault);
    return false;
  }
  return true;
}

std::unique_ptr<OpenedVault> OpenVault(const Globals& globals, int* exit_code, bool brief) {
  if (!FindVault(globals, exit_code)) return nullptr;
  auto key = LoadKey(globals);
  if (!key.ok()) {
    *exit_code = Fail(key.status());
    return nullptr;
  }
  OpenError error;
  std::unique_ptr<OpenedVault> vault;
  if (IsEndpoint(globals.vault)) {
    vault = RemoteVault::Open(globals.vault, *std::move(key), &error);
  } else {
    vault = OpenDirectory(globals.vault, *key, brief, &error);
  }
  if (!vault) {
    *exit_code = Fail(Message(error.status), error.exit_code);
    return nullptr;
  }
  WarnOfNodes(*vault);
  return vault;
}

ObjectPath SplitPath(const std::string& path) {
  size_t slash = path.find('/');
  if (slash == std::string::npos) return {path, ""};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace holdfast::cli

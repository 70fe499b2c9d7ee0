#include "cli/door.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/crypto/hmac.h"
#include "common/io/open_files.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

constexpr const char* kNames[] = {"/door", "/door.data"};

// What `ls`, `stat`, `cat` and `status` ask for; nothing of it changes anything.
constexpr uint16_t kMethods[] = {
    rpc::kGetMap,  rpc::kVaultStatus,  rpc::kListCollections, rpc::kList,    rpc::kLookup,
    rpc::kGetPart, rpc::kGetSignature, rpc::kGetSealingKey,   rpc::kNodeGet, rpc::kNodeStatus};

}  // namespace

DoorKeys DoorKeysOf(const KeyFile& key) {
  const auto pair = [&](const char* label) {
    return CurveKeyPairOf(HmacSha256(key.catalogue_key, {AsBytes(label), key.vault.bytes()}));
  };
  return {pair("holdfast/1 door inside"), pair("holdfast/1 door outside")};
}

StatusOr<std::string> DoorEndpoint(const std::string& dir) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::canonical(dir, error);
  if (error) return absl::UnavailableError(error.message());
  return absl::StrCat("ipc://", whole.string(), kNames[0]);
}

StatusOr<std::unique_ptr<ZmqTransport>> OpenDoor(const std::string& dir, const KeyFile& key) {
  const DoorKeys keys = DoorKeysOf(key);
  ZmqOptions options;
  options.keys = keys.inside;
  ASSIGN_OR_RETURN(options.listen, DoorEndpoint(dir));
  options.admit = [who = keys.outside.public_key](const CurvePublicKey& caller) {
    return caller == who ? Admission::kYes : Admission::kNo;
  };
  options.authorise = [](const CurvePublicKey&, const std::string&,
                         uint16_t method) -> StatusOr<uint32_t> {
    if (std::ranges::find(kMethods, method) != std::end(kMethods)) return 0;
    return absl::PermissionDeniedError("another command works on the vault");
  };
  RaiseOpenFileLimit();  // Every caller takes a few.
  ASSIGN_OR_RETURN(std::unique_ptr<ZmqTransport> door, ZmqTransport::Open(options));
  for (const char* name : kNames) ::chmod((dir + name).c_str(), 0600);
  return door;
}

void RemoveDoor(const std::string& dir) {
  for (const char* name : kNames) PosixFs().Remove(dir + name).IgnoreError();
}

}  // namespace holdfast::cli

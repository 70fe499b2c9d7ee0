#include "cli/door.h"

#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "common/crypto/hmac.h"

namespace holdfast::cli {

DoorKeys DoorKeysOf(const KeyFile& key) {
  const auto pair = [&](const char* label) {
    return CurveKeyPairOf(HmacSha256(key.catalogue_key, {AsBytes(label), key.vault.bytes()}));
  };
  return {pair("holdfast/1 door inside"), pair("holdfast/1 door outside")};
}

StatusOr<std::string> DoorEndpoint(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string absolute, AbsolutePath(dir));
  return absl::StrCat("ipc://", absolute, "/door");
}

StatusOr<std::unique_ptr<ZmqTransport>> OpenDoor(const std::string& dir, const KeyFile& key,
                                                 AccessTable& access) {
  const DoorKeys keys = DoorKeysOf(key);
  access.Replace(1, {{.key = keys.outside.public_key,
                      .roles = static_cast<uint32_t>(Role::kReader),
                      .name = "reader"}});
  ZmqOptions options;
  options.keys = keys.inside;
  ASSIGN_OR_RETURN(options.listen, DoorEndpoint(dir));
  options.admit = [&access](const CurvePublicKey& who) { return access.Admits(who); };
  options.authorise = [&access](const CurvePublicKey& who, const std::string&, uint16_t method) {
    return access.Check(who, method);
  };
  return ZmqTransport::Open(options);
}

void RemoveDoor(const std::string& dir) {
  for (const char* name : {"/door", "/door.data"}) PosixFs().Remove(dir + name).IgnoreError();
}

}  // namespace holdfast::cli

// The door of a vault in a directory: while one command works on it, brief ones that only read go
// through that command's process, over the Unix socket DIR/door. Both ends have CURVE keys that
// follow from the catalogue key, so whoever could open the vault gets in, and nobody else.
#pragma once

#include <memory>
#include <string>

#include "common/crypto/key_file.h"
#include "common/rpc/zmq/zmq_transport.h"

namespace holdfast::cli {

struct DoorKeys {
  CurveKeyPair inside, outside;
};
DoorKeys DoorKeysOf(const KeyFile& key);

// "ipc://…" of the vault in `dir`.
StatusOr<std::string> DoorEndpoint(const std::string& dir);

// A transport that listens there; attach to it what is to be reached. Where there can be no socket
// (its path is too long, the file system has none) it fails, and the vault is for one at a time.
StatusOr<std::unique_ptr<ZmqTransport>> OpenDoor(const std::string& dir, const KeyFile& key);
// Takes the socket's files away, once nobody listens there; whoever calls holds the vault's lock.
void RemoveDoor(const std::string& dir);

}  // namespace holdfast::cli

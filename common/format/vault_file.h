// DIR/vault: what an embedded vault is and where its disks are. JSON with a checksum as its last
// member; holds no secret and no name of any object. docs/formats/vault-file.md.
#pragma once

#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/cluster/cluster_map.h"
#include "common/io/fs.h"

namespace holdfast {

struct VaultNode {
  NodeId id;
  std::string path;  // Absolute, or relative to DIR when it lies inside. Raw bytes.
};

struct VaultFile {
  VaultId vault;
  DomainId domain;
  uint32_t chunk_size = 512 * 1024;  // avg of the cut rule
  uint32_t replicas = 1;             // R
  int64_t created_nanos = 0;
  std::vector<VaultNode> nodes;  // In order of node number.
  // MakeKeyCheck of the catalogue key, so that a wrong key file is told from damage.
  Buffer key_check;
};

// kNotFound: no vault there. kDataLoss: damaged. kFailedPrecondition: unknown version, named.
StatusOr<VaultFile> ReadVaultFile(Fs& fs, const std::string& dir);
// kInvalidArgument: the chunk size is no power of two from 64 KiB to 4 MiB, or replicas is 0.
Status WriteVaultFile(Fs& fs, const std::string& dir, const VaultFile& vault);

Buffer MakeKeyCheck(const std::array<uint8_t, 32>& catalogue_key, const VaultId& vault);
bool CheckKey(const VaultFile& vault, const std::array<uint8_t, 32>& catalogue_key);

}  // namespace holdfast

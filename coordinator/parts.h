// Manifest parts: records of the coordinator's own making on the nodes. The clear half, which ids
// a part lists, is sealed under the catalogue key; the sealed half is the client's.
#pragma once

#include "common/format/catalogue_format.h"
#include "common/format/manifest.h"
#include "coordinator/node_client.h"

namespace holdfast {

// The record of part `id`. Its nonce comes from its bytes, so that putting it again, or putting it
// on another node, gives the same record.
Buffer MakePartRecord(const CatalogueKeys& keys, const RecordId& id, Bytes clear, Bytes sealed);
// What a manifest calls the part's digest.
Hash256 PartDigest(Bytes clear, Bytes sealed);

// Reads the part from the first replica that opens under the catalogue key and, when `digest` is
// given, has it. Runs on the Loop.
void GetPart(NodeClient& nodes, const CatalogueKeys& keys, const RecordId& id,
             const std::string& what, std::optional<Hash256> digest, int64_t timeout_nanos,
             std::function<void(StatusOr<PartRecord>)> done);

// The chunks that `parts` list, all together. kUnavailable when one of them cannot be read.
void ListChunks(NodeClient& nodes, const CatalogueKeys& keys, std::vector<PartRef> parts,
                int64_t timeout_nanos, std::function<void(StatusOr<std::vector<RecordId>>)> done);

// Ok when each of `parts` is whole on W nodes; kNotFound when they all answered and one is not;
// kUnavailable when some did not answer. Pins and reads every replica; a part
// that has too few good ones is put again from one of them. One part after another, on the Loop.
void SecureParts(NodeClient& nodes, const CatalogueKeys& keys, std::vector<PartRef> parts,
                 uint64_t epoch, const WriterId& writer, int64_t timeout_nanos,
                 std::function<void(Status)> done);

}  // namespace holdfast

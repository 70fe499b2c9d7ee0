// DIR/superblock: who this disk is, and up to where its log is known durable. Two slots of one
// block; a write goes to the slot that does not count, so a torn one leaves the other. Not
// thread-safe.
#pragma once

#include <string>

#include "common/format/segment_format.h"
#include "common/io/fs.h"

namespace holdfast {

struct LoadedSuperblock {
  Superblock superblock;
  bool one_slot_damaged = false;  // Mended by the next write.
};

// Writes both slots of a new superblock. kAlreadyExists when there is one.
Status CreateSuperblock(Fs& fs, const std::string& dir, const Superblock& superblock);
// kNotFound: none; kDataLoss: both slots damaged; kFailedPrecondition: of another release.
StatusOr<LoadedSuperblock> LoadSuperblock(Fs& fs, const std::string& dir);
// Writes with the next sequence, and raises `sequence` when that is durable. A failed write is done
// again from its start, into the same slot: the other one must stay good.
Status StoreSuperblock(Fs& fs, const std::string& dir, Superblock& superblock);

}  // namespace holdfast

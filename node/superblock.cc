#include "node/superblock.h"

#include "absl/strings/str_cat.h"
#include "node/aligned_buffer.h"

namespace holdfast {
namespace {

std::string PathOf(const std::string& dir) { return dir + "/superblock"; }

}  // namespace

Status CreateSuperblock(Fs& fs, const std::string& dir, const Superblock& superblock) {
  const std::string path = PathOf(dir);
  ASSIGN_OR_RETURN(bool exists, fs.Exists(path));
  if (exists) return absl::AlreadyExistsError(path + " exists: this is a node's disk already");
  Superblock slot = superblock;
  Buffer bytes;
  for (uint64_t sequence : {2, 1}) {  // Slot n holds the sequences that are n modulo 2.
    slot.sequence = sequence;
    const auto block = EncodeSuperblock(slot);
    bytes.insert(bytes.end(), block.begin(), block.end());
  }
  return WriteFileAtomically(fs, path, bytes);
}

StatusOr<LoadedSuperblock> LoadSuperblock(Fs& fs, const std::string& dir) {
  const std::string path = PathOf(dir);
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, {}));
  LoadedSuperblock loaded;
  bool any = false;
  Status worst;
  for (uint64_t slot = 0; slot < 2; ++slot) {
    Buffer block(kBlockSize);
    StatusOr<size_t> n = file->ReadAt(slot * kBlockSize, block);
    StatusOr<Superblock> one = n.ok() ? DecodeSuperblock(Bytes(block).first(*n)) : n.status();
    if (!one.ok()) {
      loaded.one_slot_damaged = true;
      if (!absl::IsFailedPrecondition(worst)) worst = one.status();
    } else if (!any || one->sequence > loaded.superblock.sequence) {
      loaded.superblock = *one;
      any = true;
    }
  }
  // A slot of a newer release may not be overruled by an older one beside it.
  if (absl::IsFailedPrecondition(worst)) return Annotate(worst, path);
  if (!any) {
    return absl::DataLossError(absl::StrCat(
        path, ": both slots are damaged (", worst.message(),
        "); keep this disk: its segments are as they were; with other copies of what it "
        "holds the vault works without it"));
  }
  return loaded;
}

Status StoreSuperblock(Fs& fs, const std::string& dir, Superblock& superblock) {
  Superblock next = superblock;
  next.sequence += 1;
  OpenOptions options;
  options.write = true;
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(PathOf(dir), options));
  RETURN_IF_ERROR(file->WriteAt(next.sequence % 2 * kBlockSize, EncodeSuperblock(next)));
  RETURN_IF_ERROR(file->DataSync());
  superblock = next;
  return absl::OkStatus();
}

}  // namespace holdfast

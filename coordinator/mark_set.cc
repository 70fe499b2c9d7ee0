#include "coordinator/mark_set.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {
namespace {

constexpr char kPrefix[] = "mark-";
constexpr size_t kIdsPerBlock = 2048;
constexpr size_t kBlockBytes = kIdsPerBlock * RecordId::kSize + Checksum::kSize;

// Of the ids and of where they belong.
Checksum BlockChecksum(Bytes ids, uint32_t bucket, uint64_t block) {
  Buffer buffer(ids.begin(), ids.end());
  Writer writer(buffer);
  writer.U32(bucket);
  writer.U64(block);
  return ChecksumOf(buffer);
}

}  // namespace

StatusOr<std::unique_ptr<MarkSet>> MarkSet::Make(Fs& fs, std::string dir) {
  RETURN_IF_ERROR(fs.CreateDir(dir));
  std::unique_ptr<MarkSet> set(new MarkSet(fs, std::move(dir)));
  RETURN_IF_ERROR(set->RemoveFiles());
  return set;
}

MarkSet::~MarkSet() { (void)RemoveFiles(); }

std::string MarkSet::PathOf(uint32_t bucket) const {
  return absl::StrCat(dir_, "/", kPrefix, bucket);
}

Status MarkSet::RemoveFiles() {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(dir_));
  for (const std::string& name : names) {
    if (name.starts_with(kPrefix)) RETURN_IF_ERROR(fs_.Remove(dir_ + "/" + name));
  }
  return absl::OkStatus();
}

Status MarkSet::Add(const RecordId& id) {
  Bucket& bucket = buckets_[BucketOf(id)];
  bucket.buffer.push_back(id);
  peak_bytes_ = std::max(peak_bytes_, ++buffered_ * RecordId::kSize);
  if (bucket.buffer.size() < kIdsPerBlock) return absl::OkStatus();
  return Spill(BucketOf(id));
}

Status MarkSet::Spill(uint32_t number) {
  Bucket& bucket = buckets_[number];
  Buffer block;
  block.reserve(kBlockBytes);
  Writer writer(block);
  for (const RecordId& id : bucket.buffer) writer.Id(id);
  writer.Id(BlockChecksum(block, number, bucket.blocks));
  OpenOptions options;
  options.write = options.create = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs_.Open(PathOf(number), options));
  RETURN_IF_ERROR(file->WriteAt(bucket.blocks * kBlockBytes, block));
  ++bucket.blocks;
  buffered_ -= bucket.buffer.size();
  bucket.buffer.clear();
  return absl::OkStatus();
}

StatusOr<std::vector<RecordId>> MarkSet::Load(uint32_t number) {
  const Bucket& bucket = buckets_[number];
  std::vector<RecordId> ids = bucket.buffer;
  ids.reserve(ids.size() + bucket.blocks * kIdsPerBlock);
  std::unique_ptr<File> file;
  if (bucket.blocks > 0) {
    ASSIGN_OR_RETURN(file, fs_.Open(PathOf(number), {}));
  }
  for (uint64_t block = 0; block < bucket.blocks; ++block) {
    Buffer bytes(kBlockBytes);
    ASSIGN_OR_RETURN(const size_t n, file->ReadAt(block * kBlockBytes, bytes));
    Reader reader(Bytes(bytes).first(n));
    const Bytes stored = reader.Raw(kIdsPerBlock * RecordId::kSize);
    if (reader.Id<Checksum>() != BlockChecksum(stored, number, block) || !reader.done()) {
      return absl::DataLossError(
          absl::StrCat(PathOf(number), ": what was written there reads back as something else"));
    }
    Reader each(stored);
    for (size_t i = 0; i < kIdsPerBlock; ++i) ids.push_back(each.Id<RecordId>());
  }
  peak_bytes_ = std::max(peak_bytes_, (buffered_ + ids.size()) * RecordId::kSize);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace holdfast

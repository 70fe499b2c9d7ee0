// The ids of all records that are needed, as mark finds them: in memory as far as a small buffer
// goes, beyond that in files, by the first byte of the id. Used on the Loop.
//
// The files hold ids alone, which the nodes know too. Each block carries its checksum: a bit that
// flips here would let something go that is needed. They need no sync: a run that is interrupted
// begins anew.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/io/fs.h"

namespace holdfast {

class MarkSet {
 public:
  static constexpr uint32_t kBuckets = 256;

  // In `dir`, which is made if it is not there; files that an earlier run left go.
  static StatusOr<std::unique_ptr<MarkSet>> Make(Fs& fs, std::string dir);
  ~MarkSet();
  static uint32_t BucketOf(const RecordId& id) { return id.value[0]; }

  Status Add(const RecordId& id);
  // The ids of a bucket, sorted, each once. kDataLoss when a file is not as it was written.
  StatusOr<std::vector<RecordId>> Load(uint32_t bucket);
  // The most memory that this took at a time.
  uint64_t peak_bytes() const { return peak_bytes_; }

 private:
  struct Bucket {
    std::vector<RecordId> buffer;
    uint64_t blocks = 0;  // In the file.
  };

  MarkSet(Fs& fs, std::string dir) : fs_(fs), dir_(std::move(dir)), buckets_(kBuckets) {}
  std::string PathOf(uint32_t bucket) const;
  Status RemoveFiles();
  Status Spill(uint32_t bucket);

  Fs& fs_;
  const std::string dir_;
  std::vector<Bucket> buckets_;
  uint64_t buffered_ = 0;  // Ids.
  uint64_t peak_bytes_ = 0;
};

}  // namespace holdfast

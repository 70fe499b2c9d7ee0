// Words for what recovery and checks find. One text for one fact wherever it is found, so that a
// report can leave out repetitions.
#pragma once

#include <string>

#include "common/format/segment_format.h"
#include "common/proto/holdfast.pb.h"

namespace holdfast {

// "<dir>/segments/0000000007.seg"
std::string SegmentPath(const std::string& dir, uint64_t number);
// The number in a segment's file name; 0 when it is not one.
uint64_t SegmentNumberOf(const std::string& file_name);

const char* KindName(RecordKind kind);

class FindingMaker {
 public:
  FindingMaker(std::string dir, uint32_t node) : dir_(std::move(dir)), node_(node) {}

  // "<dir>: text"
  proto::Finding OfDisk(proto::Finding::Class finding_class, const std::string& text) const;
  // "<path of the segment>: text"
  proto::Finding OfSegment(proto::Finding::Class finding_class, uint64_t segment_number,
                           const std::string& text) const;
  // "<path of the segment> at <offset>: text"
  proto::Finding At(proto::Finding::Class finding_class, uint64_t segment_number, uint64_t offset,
                    const std::string& text) const;
  // The same, of one record: its id and kind are filled in and named.
  proto::Finding OfRecord(proto::Finding::Class finding_class, uint64_t segment_number,
                          uint64_t offset, const RecordId& id, RecordKind kind,
                          const std::string& text) const;

 private:
  std::string dir_;
  uint32_t node_;
};

}  // namespace holdfast

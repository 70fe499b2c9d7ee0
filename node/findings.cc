#include "node/findings.h"

#include <cstdio>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace holdfast {

std::string SegmentPath(const std::string& dir, uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "%010llu.seg", static_cast<unsigned long long>(number));
  return absl::StrCat(dir, "/segments/", name);
}

uint64_t SegmentNumberOf(const std::string& file_name) {
  constexpr size_t kDigits = 10;
  const bool shaped = file_name.size() == kDigits + 4 && absl::EndsWith(file_name, ".seg") &&
                      file_name.find_first_not_of("0123456789") == kDigits;
  uint64_t number = 0;
  if (!shaped || !absl::SimpleAtoi(file_name.substr(0, kDigits), &number)) return 0;
  return number <= std::numeric_limits<uint32_t>::max() ? number : 0;
}

const char* KindName(RecordKind kind) {
  switch (kind) {
    case RecordKind::kChunk:
      return "chunk";
    case RecordKind::kManifestPart:
      return "manifest part";
    case RecordKind::kCommitRecord:
      return "commit record";
    case RecordKind::kKeystore:
      return "keystore";
    case RecordKind::kTouch:
      return "touch record";
    case RecordKind::kQuarantine:
      return "quarantine record";
    case RecordKind::kTrash:
      return "trash record";
    case RecordKind::kRecoveryNote:
      return "recovery note";
  }
  return "record of an unknown kind";
}

proto::Finding FindingMaker::OfDisk(proto::Finding::Class finding_class,
                                    const std::string& text) const {
  proto::Finding finding;
  finding.set_class_(finding_class);
  finding.set_node(node_);
  finding.set_text(absl::StrCat(dir_, ": ", text));
  return finding;
}

proto::Finding FindingMaker::OfSegment(proto::Finding::Class finding_class, uint64_t segment_number,
                                       const std::string& text) const {
  proto::Finding finding = OfDisk(finding_class, "");
  finding.set_segment_number(segment_number);
  finding.set_text(absl::StrCat(SegmentPath(dir_, segment_number), ": ", text));
  return finding;
}

proto::Finding FindingMaker::At(proto::Finding::Class finding_class, uint64_t segment_number,
                                uint64_t offset, const std::string& text) const {
  proto::Finding finding = OfDisk(finding_class, "");
  finding.set_segment_number(segment_number);
  finding.set_offset(offset);
  finding.set_text(absl::StrCat(SegmentPath(dir_, segment_number), " at ", offset, ": ", text));
  return finding;
}

proto::Finding FindingMaker::OfRecord(proto::Finding::Class finding_class, uint64_t segment_number,
                                      uint64_t offset, const RecordId& id, RecordKind kind,
                                      const std::string& text) const {
  std::string name = KindName(kind);
  if (!id.is_zero()) absl::StrAppend(&name, " ", id.hex());
  proto::Finding finding =
      At(finding_class, segment_number, offset, absl::StrCat(name, ": ", text));
  if (!id.is_zero()) finding.set_id(ToString(id.bytes()));
  finding.set_kind(static_cast<uint32_t>(kind));
  return finding;
}

}  // namespace holdfast

#include "node/segment_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "node/aligned_buffer.h"
#include "node/segment_scan.h"

namespace holdfast {
namespace {

// Each is told of by itself. What says that more are gone than any disk holds is itself damaged.
constexpr uint64_t kMaxMissing = 1u << 18;

using State = SegmentInfo::State;
using proto::Finding;

StatusOr<SegmentHeader> ReadHeader(Fs& fs, const std::string& dir, SegmentInfo& info) {
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, OpenSegment(fs, dir, info.number));
  ASSIGN_OR_RETURN(info.file_bytes, file->Size());
  AlignedBuffer block(kBlockSize);
  ASSIGN_OR_RETURN(size_t n, file->ReadAt(0, {block.data(), kBlockSize}));
  return DecodeSegmentHeader({block.data(), n});
}

// Whose segment it is, if not this node's; else empty.
std::string Foreignness(const SegmentHeader& header, const VaultId& vault, const NodeId& node,
                        uint64_t number) {
  if (header.vault != vault) return "belongs to another vault";
  if (header.node != node) return "belongs to another node of this vault";
  if (header.number == number) return "";
  return absl::StrCat("is segment ", header.number, " under a wrong name");
}

Finding BadHeader(const FindingMaker& make, uint64_t number, const Status& why) {
  return make.OfSegment(absl::IsUnavailable(why) ? Finding::UNREADABLE : Finding::CORRUPT, number,
                        Message(why));
}

Finding MissingSegment(const FindingMaker& make, uint64_t number) {
  return make.OfSegment(Finding::MISSING, number, "this segment is missing");
}

Finding CutShort(const FindingMaker& make, uint64_t number, uint64_t file_bytes, uint64_t end) {
  return make.At(Finding::CORRUPT, number, file_bytes,
                 absl::StrCat("is cut short: ", end - file_bytes, " bytes are missing"));
}

// Of a segment whose own header is lost.
StatusOr<SegmentHeader> HeaderFromOutside(Fs& fs, Rng& rng, const NodeOptions& options,
                                          const SegmentInfo& info,
                                          const std::optional<SegmentInfo>& before) {
  SegmentHeader header;
  header.vault = options.vault;
  header.node = options.node;
  header.segment = info.id.is_zero() ? rng.NewId<SegmentId>() : info.id;
  header.number = info.number;
  header.created_nanos = info.created_nanos;
  if (!before) return header;
  if (before->id.is_zero() || before->state == State::kMissing) {
    return absl::UnavailableError("too little is known of the segment before it");
  }
  header.previous = before->id;
  header.previous_end = before->readable() ? before->end : kBlockSize;
  header.previous_last_lsn = before->synced_lsn;
  if (!before->readable() || before->end_known) return header;
  StatusOr<std::unique_ptr<File>> file = OpenSegment(fs, options.dir, before->number);
  if (!file.ok()) return Refusal(file.status());
  ScanOptions scan_options;
  scan_options.segment = before->id;
  scan_options.end = before->file_bytes;
  const SegmentScan scan = ScanSegment(**file, scan_options);
  header.previous_end = scan.end;
  header.previous_last_lsn = scan.next_lsn - 1;
  return header;
}

class Loader {
 public:
  Loader(Fs& fs, const std::string& dir, const Superblock& superblock)
      : fs_(fs), dir_(dir), superblock_(superblock), make_(dir, superblock.node_number) {}

  StatusOr<LoadedSegments> Run() {
    ASSIGN_OR_RETURN(std::vector<std::string> names, fs_.List(dir_ + "/segments"));
    for (const std::string& name : names) {
      const uint64_t number = SegmentNumberOf(name);
      if (number != 0) {
        RETURN_IF_ERROR(LoadOne(number));
      } else {
        Add(make_.OfDisk(Finding::NOTE, "segments/" + name + " is no segment; left alone"));
      }
    }
    RETURN_IF_ERROR(AddMissing());
    LinkAll();
    JudgeTail();
    CheckEnds();
    return std::move(loaded_);
  }

 private:
  void Add(Finding finding) { loaded_.findings.push_back(std::move(finding)); }

  Status LoadOne(uint64_t number) {
    SegmentInfo& info = loaded_.table[number];
    info.number = number;
    info.state = State::kHeaderDamaged;
    StatusOr<SegmentHeader> header = ReadHeader(fs_, dir_, info);
    // To write on behind what a newer release wrote would be wrong.
    if (absl::IsFailedPrecondition(header.status())) {
      return Annotate(header.status(), SegmentPath(dir_, number));
    }
    // To go on without what it holds would be to let go of it.
    if (IsRefused(header.status())) return Refusal(header.status());
    if (!header.ok()) {
      why_[number] = header.status();
      return absl::OkStatus();
    }
    info.created_nanos = info.verified_nanos = header->created_nanos;
    const std::string foreign = Foreignness(*header, superblock_.vault, superblock_.node, number);
    if (!foreign.empty()) {
      info.state = State::kForeign;
      Add(make_.OfSegment(Finding::FOREIGN, number, foreign));
      return absl::OkStatus();
    }
    info.state = header->freed ? State::kFreed : State::kGood;
    info.id = header->segment;
    headers_[number] = *header;
    return absl::OkStatus();
  }

  // Only what is known to be of this node tells how far its numbers go: a stray file may have any.
  Status AddMissing() {
    last_own_ = superblock_.synced_segment_number;
    if (!headers_.empty()) last_own_ = std::max(last_own_, headers_.rbegin()->first);
    if (last_own_ > loaded_.table.size() + kMaxMissing) {
      return absl::DataLossError(absl::StrCat(
          dir_, " says that it has ", last_own_, " segments, and has ", loaded_.table.size(),
          ": its numbers are damaged; with other copies of what it holds the vault works "
          "without it"));
    }
    std::vector<uint64_t> missing;
    for (uint64_t number = 1; number <= last_own_; ++number) {
      if (!loaded_.table.contains(number) && !PassedOver(number)) missing.push_back(number);
    }
    for (const uint64_t number : missing) {
      SegmentInfo& info = loaded_.table[number];
      info.number = number;
      info.state = State::kMissing;
      if (number == superblock_.synced_segment_number) info.id = superblock_.synced_segment;
      Add(MissingSegment(make_, number));
    }
    return absl::OkStatus();
  }

  // The log steps over numbers that are taken by strangers: the next header names a segment below.
  bool PassedOver(uint64_t number) {
    auto above = headers_.upper_bound(number);
    if (above == headers_.end()) return false;
    const SegmentId& previous = above->second.previous;
    if (previous.is_zero()) return true;
    const auto end = loaded_.table.lower_bound(number);
    return std::any_of(loaded_.table.begin(), end, [&](const auto& entry) {
      const SegmentInfo& info = entry.second;
      return info.id == previous ||
             (info.state == State::kHeaderDamaged && IdFromRecords(info) == previous);
    });
  }

  // Gives every segment with a successor its uuid and end, from the successor's header. Files in
  // between that no header names are leftovers.
  void LinkAll() {
    for (const auto& [number, header] : headers_) {
      auto below = std::make_reverse_iterator(loaded_.table.find(number));
      if (header.previous.is_zero()) {
        DropLeftovers(below, loaded_.table.rend());
        continue;
      }
      auto named = FindNamed(below, header.previous);
      if (named == loaded_.table.rend()) {
        Add(make_.OfSegment(Finding::MISSING, number,
                            "the segment before it is not the one it names"));
        continue;
      }
      DropLeftovers(below, named);
      SegmentInfo& previous = named->second;
      previous.id = header.previous;
      previous.end = header.previous_end;
      previous.synced_lsn = header.previous_last_lsn;
      previous.end_known = true;
      if (previous.state == State::kHeaderDamaged) ReportHeader(previous);
    }
  }

  // The segment with this uuid; where no header tells it, one whose records do; else the nearest
  // that tells nothing.
  SegmentTable::reverse_iterator FindNamed(SegmentTable::reverse_iterator from,
                                           const SegmentId& id) {
    const auto none = loaded_.table.rend();
    auto find = [&](auto matches) {
      return std::find_if(from, none, [&](const auto& entry) { return matches(entry.second); });
    };
    auto named = find([&](const SegmentInfo& info) { return info.id == id; });
    if (named != none) return named;
    named = find([&](const SegmentInfo& info) {
      return info.state == State::kHeaderDamaged && IdFromRecords(info) == id;
    });
    if (named != none) return named;
    return find([&](const SegmentInfo& info) { return info.id.is_zero(); });
  }

  // Read once: it is asked for again and again.
  const SegmentId& IdFromRecords(const SegmentInfo& info) {
    const auto [known, fresh] = ids_.try_emplace(info.number);
    if (!fresh) return known->second;
    StatusOr<std::unique_ptr<File>> file = OpenSegment(fs_, dir_, info.number);
    if (file.ok()) known->second = FindSegmentId(**file, info.file_bytes);
    return known->second;
  }

  void DropLeftovers(SegmentTable::reverse_iterator from, SegmentTable::reverse_iterator to) {
    for (; from != to; ++from) {
      if (from->second.state == State::kHeaderDamaged && from->second.id.is_zero()) {
        from->second.state = State::kLeftover;
      }
    }
  }

  void ReportHeader(const SegmentInfo& info) {
    Add(BadHeader(make_, info.number, why_[info.number]));
  }

  // Files after the last good header: a damaged one if anything shows that it was in use.
  void JudgeTail() {
    uint64_t next = last_own_ + 1;  // The log takes the first number that is free.
    for (auto& [number, info] : loaded_.table) {
      if (number == next) ++next;
      if (info.state != State::kHeaderDamaged || !info.id.is_zero()) continue;
      if (number > next) {
        info.state = State::kForeign;
        Add(make_.OfSegment(Finding::FOREIGN, number,
                            "has no good header, and a number that this node has not come to"));
        continue;
      }
      info.id = number == superblock_.synced_segment_number ? superblock_.synced_segment
                                                            : IdFromRecords(info);
      if (info.id.is_zero() && !absl::IsUnavailable(why_[number])) {
        info.state = State::kLeftover;
        Add(make_.OfSegment(Finding::NOTE, number,
                            "was left behind, empty, by a crash; its number is not used"));
      } else {
        ReportHeader(info);
      }
    }
    loaded_.next_number = next;
  }

  void CheckEnds() {
    for (auto& [number, info] : loaded_.table) {
      if (!info.readable()) continue;
      if (!info.end_known) {
        info.end = info.file_bytes;
        info.synced_lsn = SegmentInfo::kAllDue;
      }
      uint64_t end = info.end;
      if (number == superblock_.synced_segment_number) {
        end = std::max(end, superblock_.synced_end);
        if (info.id != superblock_.synced_segment) {
          Add(make_.OfSegment(Finding::FOREIGN, number, "is not the segment the superblock names"));
        }
      }
      if (info.file_bytes < end) {
        Add(CutShort(make_, number, info.file_bytes, end));
      }
    }
  }

  Fs& fs_;
  const std::string& dir_;
  const Superblock& superblock_;
  const FindingMaker make_;
  std::map<uint64_t, SegmentHeader> headers_;
  std::map<uint64_t, Status> why_;
  std::map<uint64_t, SegmentId> ids_;  // As their records tell them.
  uint64_t last_own_ = 0;              // The highest number known to be of this node.
  LoadedSegments loaded_;
};

}  // namespace

StatusOr<LoadedSegments> LoadSegments(Fs& fs, const std::string& dir,
                                      const Superblock& superblock) {
  return Loader(fs, dir, superblock).Run();
}

StatusOr<std::vector<Finding>> CheckSegmentFile(Fs& fs, const std::string& dir,
                                                const FindingMaker& make,
                                                const NodeOptions& options,
                                                const SegmentInfo& info) {
  std::vector<Finding> findings;
  if (info.state == State::kLeftover || info.state == State::kFreed) return findings;
  SegmentInfo now = info;
  StatusOr<SegmentHeader> header = ReadHeader(fs, dir, now);
  if (IsRefused(header.status())) return Refusal(header.status());
  const bool gone = absl::IsNotFound(header.status()) && now.file_bytes == 0;
  if (info.state == State::kMissing || gone) {
    findings.push_back(MissingSegment(make, info.number));
    return findings;
  }
  if (!header.ok()) {
    findings.push_back(BadHeader(make, info.number, header.status()));
  } else {
    std::string foreign = Foreignness(*header, options.vault, options.node, info.number);
    if (foreign.empty() && header->segment != info.id) foreign = "is another segment";
    if (!foreign.empty()) {
      findings.push_back(make.OfSegment(Finding::FOREIGN, info.number, foreign));
    }
  }
  if (now.readable() && now.file_bytes < info.end) {
    findings.push_back(CutShort(make, info.number, now.file_bytes, info.end));
  }
  return findings;
}

const SegmentInfo* SegmentBefore(const SegmentTable& table, uint64_t number) {
  for (auto it = std::make_reverse_iterator(table.lower_bound(number)); it != table.rend(); ++it) {
    const State state = it->second.state;
    if (state != State::kLeftover && state != State::kForeign) return &it->second;
  }
  return nullptr;
}

StatusOr<SegmentHeader> FreeSegment(Fs& fs, Rng& rng, const NodeOptions& options,
                                    const SegmentInfo& info,
                                    const std::optional<SegmentInfo>& before) {
  SegmentInfo now = info;
  StatusOr<SegmentHeader> header = ReadHeader(fs, options.dir, now);
  const Status& status = header.status();
  if (IsRefused(status) || absl::IsFailedPrecondition(status)) return Refusal(status);
  const bool missing = info.state == State::kMissing;
  if (missing && !(absl::IsNotFound(status) && now.file_bytes == 0)) {
    return absl::UnavailableError("it is there again");
  }
  if (!header.ok()) header = HeaderFromOutside(fs, rng, options, info, before);
  RETURN_IF_ERROR(header.status());
  if (!Foreignness(*header, options.vault, options.node, info.number).empty() ||
      (!info.id.is_zero() && header->segment != info.id)) {
    return absl::UnavailableError("it is another segment");
  }
  header->freed = true;
  RETURN_IF_ERROR(
      WriteFileAtomically(fs, SegmentPath(options.dir, info.number), EncodeSegmentHeader(*header)));
  return header;
}

SegmentInfo* LastReadable(SegmentTable& table) {
  for (auto it = table.rbegin(); it != table.rend(); ++it) {
    if (it->second.readable()) return &it->second;
  }
  return nullptr;
}

StatusOr<std::unique_ptr<File>> OpenSegment(Fs& fs, const std::string& dir, uint64_t number) {
  OpenOptions options;
  options.direct = true;
  return fs.Open(SegmentPath(dir, number), options);
}

bool IsRefused(const Status& opened) {
  return absl::IsPermissionDenied(opened) || absl::IsResourceExhausted(opened);
}

Status Refusal(const Status& opened) { return absl::UnavailableError(Message(opened)); }

}  // namespace holdfast

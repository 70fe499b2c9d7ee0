#include "client/reader.h"

#include <algorithm>
#include <deque>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client/reader_chunk.h"
#include "client/reader_cursor.h"
#include "client/reader_gets.h"

namespace holdfast {
namespace {

constexpr uint64_t kWindowBytes = 8u << 20;  // Of plaintext fetched together …
constexpr size_t kVariants = 64;             // Of one chunk that are tried.
constexpr size_t kWindowsAhead = 3;          // … and how many such windows are under way.

// One pass over the replicas of the map; what was wrong is added to `wrong`.
std::optional<Buffer> TryReplicas(Vault& vault, const ClusterMap& map, const ChunkRef& ref,
                                  const SealedChunkInfo& info, std::string& wrong,
                                  bool& unreachable) {
  const std::vector<uint32_t> nodes = vault.ReadOrder(map, ref.id);
  size_t again = 0;  // On this node.
  for (size_t i = 0; i < nodes.size(); ++i) {
    const uint32_t node = nodes[i];
    const GetAnswer answer = GetFromNode(vault.transport(), node, ref.id,
                                         node == nodes.back() ? kRequestNanos : kHedgeNanos);
    Status status = answer.status;
    if (absl::IsUnavailable(status)) vault.NoteUnavailable(node);
    if (status.ok()) {
      Buffer plaintext(info.length);
      status = OpenAndCheck(vault.domain_keys(), ref, info, answer.stored.view, plaintext);
      if (status.ok()) return plaintext;
      if (absl::IsDataLoss(status) && QuarantineRecord(vault.transport(), answer) &&
          again < kVariants) {
        ++again;  // Something else is in its place.
        --i;
        continue;
      }
    }
    again = 0;
    unreachable |= !absl::IsDataLoss(status);
    absl::StrAppend(&wrong, wrong.empty() ? "" : "; ", "node ", node, ": ", status.message());
  }
  return std::nullopt;
}

// Chunks fetched together.
struct Window {
  explicit Window(Transport& transport) : gets(transport) {}
  std::vector<PlacedChunk> chunks;
  NodeGets gets;
};

class RangeReader {
 public:
  RangeReader(Vault& vault, const Vault::OpenedObject& object, uint64_t begin, uint64_t end,
              const std::function<Status(Bytes)>& sink)
      : vault_(vault),
        object_(object),
        begin_(begin),
        end_(end),
        sink_(sink),
        whole_(begin == 0 && end == object.sealed.size),
        digests_(RecordedDigests(object.sealed)),
        cursor_(vault, object) {
    state_.Reset();
  }

  // Errors of the sink come back as they are, all others name the object.
  Status Run() {
    Status status = ReadAll();
    return sink_status_.ok() ? Annotate(status, DisplayName(object_.info)) : status;
  }

 private:
  Status ReadAll() {
    for (;;) {
      while (windows_.size() < kWindowsAhead && !cursor_.at_end() && !past_end_) {
        RETURN_IF_ERROR(SendWindow());
      }
      if (windows_.empty()) break;
      RETURN_IF_ERROR(TakeWindow());
    }
    return whole_ ? CheckDigests() : absl::OkStatus();
  }

  Status SendWindow() {
    ASSIGN_OR_RETURN(auto map, vault_.CachedMap());
    auto window = std::make_unique<Window>(vault_.transport());
    uint64_t bytes = 0;
    while (bytes < kWindowBytes && !cursor_.at_end()) {
      ASSIGN_OR_RETURN(PlacedChunk chunk, cursor_.Next());
      past_end_ = chunk.offset >= end_;
      if (past_end_) break;
      if (chunk.offset + chunk.info.length <= begin_) continue;
      const std::vector<uint32_t> nodes = vault_.ReadOrder(*map, chunk.ref.id);
      if (nodes.empty())
        return absl::UnavailableError("the cluster map names no node to read from");
      window->gets.Add(nodes.front(), chunk.ref.id, chunk.ref.stored_length);
      bytes += chunk.info.length;
      window->chunks.push_back(chunk);
    }
    window->gets.Send(map->replicas > 1 ? kHedgeNanos : kRequestNanos);
    windows_.push_back(std::move(window));
    return absl::OkStatus();
  }

  Status TakeWindow() {
    const std::unique_ptr<Window> window = std::move(windows_.front());
    windows_.pop_front();
    window->gets.Wait();
    for (size_t i = 0; i < window->chunks.size(); ++i) {
      const PlacedChunk& chunk = window->chunks[i];
      RETURN_IF_ERROR(OpenOne(chunk, window->gets[i]));
      const Bytes bytes = Bytes(plaintext_).first(chunk.info.length);
      if (whole_) kernels::Update(state_, digests_, bytes);
      const uint64_t from = std::max(begin_, chunk.offset) - chunk.offset;
      const uint64_t to = std::min<uint64_t>(end_ - chunk.offset, bytes.size());
      sink_status_ = sink_(bytes.subspan(from, to - from));
      RETURN_IF_ERROR(sink_status_);
    }
    return absl::OkStatus();
  }

  // Into plaintext_. A bad answer is dealt with by ReadChunk, which asks again, everywhere.
  Status OpenOne(const PlacedChunk& chunk, GetAnswer& answer) {
    if (plaintext_.size() < chunk.info.length) plaintext_.resize(chunk.info.length);
    const MutableBytes out = MutableBytes(plaintext_).first(chunk.info.length);
    const SharedBytes stored = std::move(answer.stored);
    if (answer.status.ok() &&
        OpenAndCheck(vault_.domain_keys(), chunk.ref, chunk.info, stored.view, out).ok()) {
      return absl::OkStatus();
    }
    if (absl::IsUnavailable(answer.status)) vault_.NoteUnavailable(answer.node);
    ASSIGN_OR_RETURN(const Buffer read, ReadChunk(vault_, chunk.ref, chunk.info));
    std::copy(read.begin(), read.end(), out.begin());
    return absl::OkStatus();
  }

  Status CheckDigests() const {
    const kernels::Digests got = kernels::Finish(state_, digests_);
    const SealedManifest& sealed = object_.sealed;
    if (got.sha256 == sealed.sha256 && (!sealed.sha1 || got.sha1 == *sealed.sha1) &&
        (!sealed.md5 || got.md5 == *sealed.md5)) {
      return absl::OkStatus();
    }
    return absl::DataLossError("its content does not have the recorded digests");
  }

  Vault& vault_;
  const Vault::OpenedObject& object_;
  const uint64_t begin_, end_;
  const std::function<Status(Bytes)>& sink_;
  const bool whole_;
  const uint32_t digests_;
  ChunkCursor cursor_;
  bool past_end_ = false;
  std::deque<std::unique_ptr<Window>> windows_;
  Buffer plaintext_;  // Of one chunk.
  kernels::DigestState state_;
  Status sink_status_;
};

}  // namespace

StatusOr<Buffer> ReadChunk(Vault& vault, const ChunkRef& ref, const SealedChunkInfo& info) {
  ASSIGN_OR_RETURN(auto map, vault.CachedMap());
  std::string wrong;
  bool unreachable = false;
  std::optional<Buffer> plaintext = TryReplicas(vault, *map, ref, info, wrong, unreachable);
  if (!plaintext) {
    // The map may be old, and a node that did not answer may do so now.
    ASSIGN_OR_RETURN(const ClusterMap fresh, vault.Map());
    if (unreachable || fresh.version != map->version) {
      wrong.clear();
      unreachable = false;
      plaintext = TryReplicas(vault, fresh, ref, info, wrong, unreachable);
    }
  }
  if (plaintext) return *std::move(plaintext);
  const std::string text =
      absl::StrCat(ChunkName(ref.id),
                   " has no good replica: ", wrong.empty() ? "no node holds its group" : wrong);
  return unreachable ? Status(absl::UnavailableError(text)) : Status(absl::DataLossError(text));
}

Status ReadObject(Vault& vault, const Vault::OpenedObject& object, uint64_t begin, uint64_t end,
                  const std::function<Status(Bytes)>& sink) {
  const ObjectType type = object.info.manifest.type;
  if (type != ObjectType::kFile && type != ObjectType::kHardLink) {
    return absl::InvalidArgumentError(absl::StrCat(
        DisplayName(object.info), " is a ",
        type == ObjectType::kDirectory ? "directory" : "symbolic link", " and has no content"));
  }
  end = std::min(end, object.sealed.size);
  if (begin > end || (begin == end && object.sealed.size != 0)) return absl::OkStatus();
  return RangeReader(vault, object, begin, end, sink).Run();
}

}  // namespace holdfast

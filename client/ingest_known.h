// What the vault has under the names of files that are about to be read again.
//
// A file whose chunks are those of the newest version of its name, one by one, has the same
// content: its digests need not be computed, and nothing is committed for it. That its chunks are
// on the nodes is asked as for any other, and that these are the right nodes, as in a commit, of
// the coordinator once they have answered.
#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "client/ingest_context.h"

namespace holdfast {

// The newest version of a name.
struct KnownContent {
  VersionId version;
  Hash256 chunks{};  // ChunksHash
  ObjectTag tag_sha256;
};

class KnownContents {
 public:
  explicit KnownContents(IngestContext& ctx) : ctx_(ctx) {}

  // For each entry, a file, what is known of content of its name and type. Nothing when the vault
  // cannot say. Waits for the answer.
  std::vector<std::optional<KnownContent>> Find(const std::vector<const SourceEntry*>& entries);
  // Of the coordinator's map, now. Nothing when it does not answer.
  std::optional<uint64_t> MapVersion();
  // Whether content that was known turned out to be the file's. Where too little is, nothing is
  // said to be known any more: the digests of what changed take a second pass.
  void Tell(bool same) { ++(same ? same_ : other_); }

 private:
  StatusOr<proto::FindContentReply> Ask(const proto::FindContentRequest& request);
  bool WorthAsking();
  // Whether anything that an answer was about is known.
  void TellAnswer(bool known);

  static constexpr uint64_t kFree = 64;
  static constexpr uint64_t kMostPassed = 16;
  IngestContext& ctx_;
  std::atomic<uint64_t> same_{0}, other_{0};
  // Where nothing is known, twice as many questions are passed over each time: in a new collection
  // each would wait for the coordinator in vain.
  std::atomic<uint64_t> passed_{0}, to_pass_{0};
};

}  // namespace holdfast

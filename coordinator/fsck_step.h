// What the steps of fsck.h share: the cursor, the findings, the nodes found away.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/fsck.h"

namespace holdfast {

// How often a node is asked before it counts as away.
inline constexpr int kFsckAttempts = 3;

struct FsckCursor {
  enum Phase : uint8_t { kBytes = 1, kRows = 2, kCommits = 3, kEnd = 4 };
  Phase phase = kBytes;
  std::vector<uint32_t> away;  // Nodes already reported as not answering.
  // Rows.
  std::string key;            // The next one.
  uint32_t part = 0;          // Of the object there: the next part.
  std::string last_key_name;  // Key up to and without the version of the last object counted.
  uint64_t collections = 0, objects = 0, versions = 0;  // Seen so far.
  uint64_t started_at_commit = 0;
  bool rows_unreadable = false;  // The counts say nothing.
  // Commits.
  uint64_t number = 1;  // The next one.
  Hash256 previous{};   // Hash of the one before; zero: not known.
  // Object rows that commits brought and the catalogue has no longer, until a commit is met that
  // deleted them: the key, and the commit. Of those that find no room here only the number.
  std::map<std::string, uint64_t> gone;
  uint64_t more_gone = 0;
};
std::string EncodeCursor(const FsckCursor& cursor);
StatusOr<FsckCursor> DecodeCursor(std::string_view bytes);

class FsckStep : public std::enable_shared_from_this<FsckStep> {
 public:
  FsckStep(const FsckEnv& env, FsckCursor cursor, FsckDone done)
      : env_(env), cursor_(std::move(cursor)), done_(std::move(done)) {}
  virtual ~FsckStep() = default;
  virtual void Run() = 0;

 protected:
  proto::Finding& Add(proto::Finding::Class finding_class, std::string text);
  proto::Finding& AddAtNode(proto::Finding::Class finding_class, std::string text, uint32_t node,
                            const RecordId& id, RecordKind kind);
  bool IsAway(uint32_t node) const;
  // Reports it, the first time.
  void NodeAway(uint32_t node, const Status& why);
  // Answers with the cursor as it stands. Nothing may follow.
  void Finish();

  FsckEnv env_;
  FsckCursor cursor_;
  proto::CheckCatalogueReply reply_;

 private:
  FsckDone done_;
};

std::shared_ptr<FsckStep> NewRowsStep(const FsckEnv& env, FsckCursor cursor, FsckDone done);
std::shared_ptr<FsckStep> NewCommitsStep(const FsckEnv& env, FsckCursor cursor, FsckDone done);

// Class of a finding about a record that is not PRESENT.
proto::Finding::Class FindingClass(proto::RecordStatus status);

}  // namespace holdfast

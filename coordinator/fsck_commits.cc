// The commits phase of fsck.h: the log on the nodes against itself and against the catalogue.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "coordinator/commit_pages.h"
#include "coordinator/fsck_step.h"

namespace holdfast {
namespace {

constexpr uint64_t kMaxNumbersPerStep = 1024;
constexpr size_t kMaxGone = 1000;  // Remembered by key.

// Rows that later commits may change: what is under those of the trash, the rows phase checks.
bool Changes(std::string_view key) {
  switch (static_cast<RowKind>(key[0])) {
    case RowKind::kMeta:
    case RowKind::kMap:
    case RowKind::kPrincipal:
    case RowKind::kRemoved:
      return true;
    default:
      return false;
  }
}

class CommitsStep : public FsckStep {
 public:
  using FsckStep::FsckStep;

  void Run() override {
    last_ = env_.head.number - std::min<uint64_t>(env_.head.number, env_.outbox);
    for (const MapNode& node : env_.options.map.nodes) {
      if (!IsAway(node.number)) asked_.push_back(node.number);
    }
    if (asked_.empty()) return End();
    if (cursor_.number > last_) return AllChecked();
    auto self = shared_from_this();
    env_.nodes.Gather(
        ListCommitsCalls(asked_, cursor_.number), kListCommitsNanos,
        [this, self](NodeReplies replies) { Check(std::move(replies)); }, kFsckAttempts);
  }

 private:
  void End() {
    cursor_.phase = FsckCursor::kEnd;
    Finish();
  }

  void Check(NodeReplies replies) {
    CommitPage page(cursor_.number);
    for (size_t i = 0; i < replies.size(); ++i) {
      Status added = page.Add(asked_[i], replies[i]);
      if (!added.ok()) NodeAway(asked_[i], added);
    }
    if (page.answers() == 0) return End();
    const uint64_t end = std::min({page.end(), last_ + 1, cursor_.number + kMaxNumbersPerStep});
    for (; cursor_.number < end; ++cursor_.number) {
      CheckNumber(page.copies(cursor_.number), cursor_.number);
    }
    if (cursor_.number > last_) return AllChecked();
    Finish();
  }

  // No commit deleted what is still gone; one on its way to the nodes could have.
  void AllChecked() {
    if (env_.outbox > 0) return End();
    for (const auto& [key, commit] : cursor_.gone) AddGone(key, commit);
    if (cursor_.more_gone > 0) {
      Add(proto::Finding::CORRUPT,
          absl::StrCat(cursor_.more_gone,
                       " more rows of objects are gone from the catalogue: ", kRebuildHint));
    }
    End();
  }

  void AddGone(std::string_view key, uint64_t commit) {
    Add(proto::Finding::CORRUPT,
        absl::StrCat(DescribeKey(key), ": the catalogue's row is gone, but it is in commit ",
                     commit, ": ", kRebuildHint));
  }

  void CheckNumber(const std::vector<CommitCopy>& copies, uint64_t number) {
    std::optional<ChosenCommit> chosen =
        ChooseCommit(env_.options, copies, number, cursor_.previous);
    if (!chosen) {
      CheckLost(copies, number);
      cursor_.previous = {};
      return;
    }
    CheckCopies(copies, *chosen);
    if (chosen->differing) {
      Add(proto::Finding::CORRUPT,
          absl::StrCat("commit ", number, ": the nodes hold different records"));
    }
    if (chosen->broken_link) {
      Add(proto::Finding::CORRUPT,
          absl::StrCat("commit ", number, ": it does not follow commit ", number - 1));
    }
    if (number == env_.head.number && env_.head.hash != Hash256{} &&
        chosen->hash != env_.head.hash) {
      Add(proto::Finding::CORRUPT,
          absl::StrCat("commit ", number, ": the nodes' record is not the catalogue's last"));
    }
    CheckRows(chosen->record);
    cursor_.previous = chosen->hash;
    reply_.set_rows(reply_.rows() + 1);
  }

  // No good copy anywhere that answers.
  void CheckLost(const std::vector<CommitCopy>& copies, uint64_t number) {
    if (copies.empty() && cursor_.away.size() < env_.options.map.write_quorum()) {
      // W nodes had it, so one of those that answer did.
      Add(proto::Finding::MISSING, absl::StrCat("commit ", number, " is on no node",
                                                cursor_.away.empty() ? "" : " that answers"));
    } else if (copies.empty()) {
      Add(proto::Finding::UNREADABLE,
          absl::StrCat("commit ", number, " could not be checked: no node that answers has it"));
    }
    for (const CommitCopy& copy : copies) {
      Add(proto::Finding::CORRUPT,
          absl::StrCat("commit ", number, " is damaged on node ", copy.node))
          .set_node(copy.node);
    }
  }

  void CheckCopies(const std::vector<CommitCopy>& copies, const ChosenCommit& chosen) {
    const uint64_t number = chosen.record.number;
    const RecordId id = CommitRecordId(env_.options.vault, chosen.record.generation, number);
    for (uint32_t node : ActingSet(env_.options.map, id)) {
      if (IsAway(node)) continue;
      bool here = false, good = false;
      for (const CommitCopy& copy : copies) {
        if (copy.node != node) continue;
        here = true;
        good |= Sha256(copy.record.view) == chosen.hash;
      }
      if (!here) {
        AddAtNode(proto::Finding::MISSING,
                  absl::StrCat("commit ", number, " is missing on node ", node), node, id,
                  RecordKind::kCommitRecord);
      } else if (!good) {
        AddAtNode(proto::Finding::CORRUPT,
                  absl::StrCat("commit ", number, " is damaged on node ", node), node, id,
                  RecordKind::kCommitRecord);
      }
    }
  }

  // What a record wrote is in the catalogue as it wrote it, unless that is a row that changes.
  void CheckRows(const CommitRecord& record) {
    std::vector<std::string> keys;
    std::vector<const KvMutation*> mutations;
    for (const KvMutation& mutation : record.mutations) {
      if (mutation.key.empty() || Changes(mutation.key)) continue;
      if (!mutation.value) {
        NoteDeleted(mutation.key);
        continue;
      }
      keys.push_back(mutation.key);
      mutations.push_back(&mutation);
    }
    StatusOr<std::vector<std::optional<std::string>>> rows = env_.catalogue.kv().MultiGet(keys);
    if (!rows.ok()) {
      Add(proto::Finding::CORRUPT, absl::StrCat("the catalogue's rows of commit ", record.number,
                                                ": ", Message(rows.status())));
      return;
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      if ((*rows)[i] == mutations[i]->value) continue;
      const bool object = keys[i][0] == static_cast<char>(RowKind::kObject);
      if (object && IsExplained(record.number, *mutations[i], (*rows)[i])) continue;
      if (!(*rows)[i]) {
        AddGone(keys[i], record.number);
        continue;
      }
      Add(proto::Finding::CORRUPT,
          absl::StrCat(DescribeKey(keys[i]), ": the catalogue's row differs from commit ",
                       record.number, ": ", kRebuildHint));
    }
  }

  // Whether the object's row is another one now because it was removed, or brought back; or is not
  // there, or a later one's, because it was purged: then a later commit deletes it.
  bool IsExplained(uint64_t commit, const KvMutation& wrote,
                   const std::optional<std::string>& found) {
    StatusOr<ObjectRow> before = DecodeObjectRow(*wrote.value);
    if (!before.ok()) return false;
    if (before->commit_number != commit) return true;  // The commit that brought it is compared.
    if (found) {
      StatusOr<ObjectRow> now = DecodeObjectRow(*found);
      if (!now.ok()) return false;
      before->removed_nanos = now->removed_nanos = 0;
      if (Encode(*before) == Encode(*now)) return true;
      if (now->commit_number <= commit) return false;
    }
    NoteGone(wrote.key, commit);
    return true;
  }

  void NoteGone(const std::string& key, uint64_t commit) {
    if (cursor_.gone.size() < kMaxGone) {
      cursor_.gone[key] = commit;
    } else {
      ++cursor_.more_gone;
    }
  }

  void NoteDeleted(const std::string& key) {
    if (cursor_.gone.erase(key) > 0 || cursor_.more_gone == 0) return;
    --cursor_.more_gone;
  }

  std::string DescribeKey(std::string_view key) {
    if (key[0] == static_cast<char>(RowKind::kObject)) {
      if (StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key); parsed.ok()) {
        return PrintableObject(env_.catalogue.CollectionName(parsed->collection), parsed->name);
      }
    }
    return absl::StrCat("row ", ToHex(AsBytes(key)));
  }

  uint64_t last_ = 0;
  std::vector<uint32_t> asked_;
};

}  // namespace

std::shared_ptr<FsckStep> NewCommitsStep(const FsckEnv& env, FsckCursor cursor, FsckDone done) {
  return std::make_shared<CommitsStep>(env, std::move(cursor), std::move(done));
}

}  // namespace holdfast

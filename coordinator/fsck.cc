#include "coordinator/fsck.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "coordinator/census.h"
#include "coordinator/fsck_step.h"

namespace holdfast {
namespace {

constexpr uint8_t kCursorVersion = 2;
constexpr int64_t kStatusTimeoutNanos = 10'000'000'000;

// The first step: what the catalogue's store says of its own bytes, and who answers.
class BytesStep : public FsckStep {
 public:
  using FsckStep::FsckStep;

  void Run() override {
    if (Status verified = env_.catalogue.kv().VerifyAll(); !verified.ok()) {
      Add(proto::Finding::CORRUPT, absl::StrCat("the catalogue: ", Message(verified)));
    }
    CheckMeta();
    if (env_.outbox > 0) {
      Add(proto::Finding::NOTE,
          absl::StrCat("commit ", env_.head.number, " is not yet on enough nodes"));
    }
    auto self = shared_from_this();
    const std::vector<uint32_t> asked = NodesToAsk(env_.options.map);
    env_.nodes.Gather(
        CensusCalls(asked), kStatusTimeoutNanos,
        [this, self, asked](const NodeReplies& replies) {
          Census census = ReadCensus(asked, replies);
          for (uint32_t i = 0; i < census.nodes.size(); ++i) {
            if (!census.nodes[i].ok()) NodeAway(i, census.nodes[i].status());
          }
          cursor_.phase = FsckCursor::kRows;
          cursor_.started_at_commit = env_.head.number;
          Finish();
        },
        kFsckAttempts);
  }

 private:
  // The rows that Open read must still read as it did.
  void CheckMeta() {
    StatusOr<std::optional<Head>> head = env_.catalogue.FindHead();
    if (!head.ok()) {
      Add(proto::Finding::CORRUPT, Message(head.status()));
    } else if (!*head || EncodeHead(**head) != EncodeHead(env_.head)) {
      Add(proto::Finding::CORRUPT, "the catalogue's head is not what was last written");
    }
    StatusOr<Counters> counters = env_.catalogue.GetCounters();
    if (!counters.ok()) {
      Add(proto::Finding::CORRUPT, Message(counters.status()));
    } else if (EncodeCounters(*counters) != EncodeCounters(env_.counters)) {
      Add(proto::Finding::CORRUPT, "the catalogue's counters are not what was last written");
    }
  }
};

}  // namespace

std::string EncodeCursor(const FsckCursor& cursor) {
  if (cursor.phase == FsckCursor::kEnd) return "";
  Buffer b;
  Writer w(b);
  w.U8(kCursorVersion);
  w.U8(cursor.phase);
  w.U32(static_cast<uint32_t>(cursor.away.size()));
  for (uint32_t node : cursor.away) w.U32(node);
  w.Blob(cursor.key);
  w.U32(cursor.part);
  w.Blob(cursor.last_key_name);
  w.U64(cursor.collections);
  w.U64(cursor.objects);
  w.U64(cursor.versions);
  w.U64(cursor.started_at_commit);
  w.U8(cursor.rows_unreadable);
  w.U64(cursor.number);
  w.Raw(cursor.previous);
  w.U32(static_cast<uint32_t>(cursor.gone.size()));
  for (const auto& [key, commit] : cursor.gone) {
    w.Blob(key);
    w.U64(commit);
  }
  w.U64(cursor.more_gone);
  return ToString(b);
}

StatusOr<FsckCursor> DecodeCursor(std::string_view bytes) {
  FsckCursor cursor;
  if (bytes.empty()) return cursor;
  Reader r(AsBytes(bytes));
  const bool known = r.U8() == kCursorVersion;
  const uint8_t phase = r.U8();
  cursor.phase = static_cast<FsckCursor::Phase>(phase);
  for (uint32_t i = r.U32(); i > 0 && r.ok(); --i) cursor.away.push_back(r.U32());
  cursor.key = r.String();
  cursor.part = r.U32();
  cursor.last_key_name = r.String();
  cursor.collections = r.U64();
  cursor.objects = r.U64();
  cursor.versions = r.U64();
  cursor.started_at_commit = r.U64();
  cursor.rows_unreadable = r.U8() != 0;
  cursor.number = r.U64();
  Bytes previous = r.Raw(cursor.previous.size());
  for (uint32_t i = r.U32(); i > 0 && r.ok(); --i) {
    std::string key = r.String();
    cursor.gone[std::move(key)] = r.U64();
  }
  cursor.more_gone = r.U64();
  if (!known || !r.done() || phase < FsckCursor::kBytes || phase >= FsckCursor::kEnd ||
      cursor.number == 0) {
    return absl::InvalidArgumentError("not a cursor of a catalogue check");
  }
  std::copy(previous.begin(), previous.end(), cursor.previous.begin());
  return cursor;
}

proto::Finding& FsckStep::Add(proto::Finding::Class finding_class, std::string text) {
  proto::Finding& finding = *reply_.add_findings();
  finding.set_class_(finding_class);
  finding.set_text(std::move(text));
  return finding;
}

proto::Finding& FsckStep::AddAtNode(proto::Finding::Class finding_class, std::string text,
                                    uint32_t node, const RecordId& id, RecordKind kind) {
  proto::Finding& finding = Add(finding_class, std::move(text));
  finding.set_node(node);
  finding.set_id(ToString(id.bytes()));
  finding.set_kind(static_cast<uint32_t>(kind));
  return finding;
}

bool FsckStep::IsAway(uint32_t node) const {
  return std::find(cursor_.away.begin(), cursor_.away.end(), node) != cursor_.away.end();
}

void FsckStep::NodeAway(uint32_t node, const Status& why) {
  if (IsAway(node)) return;
  cursor_.away.push_back(node);
  Add(proto::Finding::UNREADABLE,
      absl::StrCat("node ", node, " could not be checked: ", Message(why)))
      .set_node(node);
}

void FsckStep::Finish() {
  reply_.set_cursor(EncodeCursor(cursor_));
  done_(std::move(reply_));
}

proto::Finding::Class FindingClass(proto::RecordStatus status) {
  switch (status) {
    case proto::MISSING:
      return proto::Finding::MISSING;
    case proto::CORRUPT:
      return proto::Finding::CORRUPT;
    default:
      return proto::Finding::UNREADABLE;
  }
}

void CheckCatalogueStep(const FsckEnv& env, std::string_view cursor, FsckDone done) {
  StatusOr<FsckCursor> at = DecodeCursor(cursor);
  if (!at.ok()) return done(at.status());
  std::shared_ptr<FsckStep> step;
  switch (at->phase) {
    case FsckCursor::kRows:
      step = NewRowsStep(env, *std::move(at), std::move(done));
      break;
    case FsckCursor::kCommits:
      step = NewCommitsStep(env, *std::move(at), std::move(done));
      break;
    default:
      step = std::make_shared<BytesStep>(env, *std::move(at), std::move(done));
  }
  step->Run();
}

}  // namespace holdfast

#include "coordinator/sessions.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"

namespace holdfast {
namespace {

constexpr size_t kAnswersKept = 8;

Status WriteRow(Kv& kv, const SessionId& id, const SessionRow& row) {
  return kv.Write({{SessionKey(id), Encode(row)}}, /*sync=*/true);
}

}  // namespace

Status Sessions::Start(bool keep) {
  const std::string begin(1, static_cast<char>(RowKind::kSession));
  const std::string end(1, static_cast<char>(RowKind::kSession) + 1);
  KvBatch batch;
  Status error;
  RETURN_IF_ERROR(
      catalogue_.kv().Scan(begin, end, [&](std::string_view key, std::string_view value) {
        StatusOr<SessionRow> row = DecodeSessionRow(value);
        if (!row.ok()) {
          error = Annotate(row.status(), "a session's row");
          return false;
        }
        if (row->state != SessionState::kOpen) return true;
        if (keep) {
          auto session = std::make_unique<Session>();
          session->seen_nanos = clock_.MonotonicNanos();
          if (!row->last_request.empty()) Remember(*session, row->last_request, row->last_answer);
          session->row = *std::move(row);
          open_[ParseSessionKey(key)] = std::move(session);
        } else {
          row->state = SessionState::kAborted;
          batch.push_back({std::string(key), Encode(*row)});
        }
        return true;
      }));
  RETURN_IF_ERROR(error);
  if (batch.empty()) return absl::OkStatus();
  return catalogue_.kv().Write(batch, /*sync=*/true);
}

StatusOr<uint64_t> Sessions::Open(const SessionId& id, uint64_t epoch) {
  if (auto it = open_.find(id); it != open_.end()) {
    it->second->seen_nanos = clock_.MonotonicNanos();
    return it->second->row.epoch;
  }
  if (id.is_zero()) return absl::InvalidArgumentError("a session needs an id of 16 bytes");
  ASSIGN_OR_RETURN(std::optional<SessionRow> row, catalogue_.FindSession(id));
  if (row) return NotOpen(id);
  auto session = std::make_unique<Session>();
  session->row.epoch = epoch;
  session->row.opened_nanos = clock_.WallNanos();
  session->seen_nanos = clock_.MonotonicNanos();
  RETURN_IF_ERROR(WriteRow(catalogue_.kv(), id, session->row));
  open_[id] = std::move(session);
  return epoch;
}

Status Sessions::Close(const SessionId& id, bool abort) {
  ASSIGN_OR_RETURN(std::optional<SessionRow> row, catalogue_.FindSession(id));
  if (!row) return NotOpen(id);
  const SessionState state = abort ? SessionState::kAborted : SessionState::kDone;
  if (row->state == state) return absl::OkStatus();
  // Closing as aborted what is done, or the reverse, is not a repetition.
  if (row->state != SessionState::kOpen) return NotOpen(id);
  row->state = state;
  row->last_request.clear();
  row->last_answer.clear();
  RETURN_IF_ERROR(WriteRow(catalogue_.kv(), id, *row));
  open_.erase(id);
  return absl::OkStatus();
}

StatusOr<Session*> Sessions::Get(const SessionId& id) {
  auto it = open_.find(id);
  if (it == open_.end() && HOLDFAST_MUTANT(commit_without_session)) {
    it = open_.emplace(id, std::make_unique<Session>()).first;
    it->second->row.epoch = 1;
  }
  if (it == open_.end()) return NotOpen(id);
  it->second->seen_nanos = clock_.MonotonicNanos();
  return it->second.get();
}

uint64_t Sessions::LowestEpoch(uint64_t otherwise) const {
  uint64_t lowest = otherwise;
  for (const auto& [id, session] : open_) lowest = std::min(lowest, session->row.epoch);
  return lowest;
}

Status Sessions::AbortSilent(int64_t lease_nanos) {
  std::vector<SessionId> silent;
  for (const auto& [id, session] : open_) {
    if (clock_.MonotonicNanos() - session->seen_nanos > lease_nanos) silent.push_back(id);
  }
  std::sort(silent.begin(), silent.end());  // So that one seed is one story.
  for (const SessionId& id : silent) RETURN_IF_ERROR(Close(id, /*abort=*/true));
  return absl::OkStatus();
}

Status Sessions::NotOpen(const SessionId& id) {
  ASSIGN_OR_RETURN(std::optional<SessionRow> row, catalogue_.FindSession(id));
  const char* state = !row                                ? "is not known"
                      : row->state == SessionState::kDone ? "is closed"
                                                          : "was aborted";
  return absl::AbortedError(
      absl::StrCat("session ", id.hex(), " ", state, ": start the ingest again"));
}

void Remember(Session& session, const std::string& request, std::string reply_head) {
  session.answered.push_back({request, std::move(reply_head)});
  if (session.answered.size() > kAnswersKept) session.answered.pop_front();
}

const std::string* Recall(const Session& session, const std::string& request) {
  for (const Session::Answered& answered : session.answered) {
    if (answered.request == request) return &answered.reply_head;
  }
  return nullptr;
}

}  // namespace holdfast

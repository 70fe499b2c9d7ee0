#include "common/rpc/zmq/peer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/rpc/addresses.h"

namespace holdfast {
namespace {

constexpr int64_t kPingNanos = 1000 * kMilli;
constexpr int64_t kFirstPingNanos = 10 * kMilli;  // Between pings until the first answer.
constexpr int64_t kConnectNanos = 2000 * kMilli;
constexpr int64_t kRefusedNanos = 200 * kMilli;  // Until the key is shown again to who refused it.
constexpr int64_t kSilenceNanos = 5000 * kMilli;
// Sent and unanswered; one message may be larger, alone.
constexpr uint64_t kCreditBytes = 16u << 20;
constexpr size_t kCreditCalls = 256;
// Replies taken in before the peer, which holds back when it is owed much, is told so.
constexpr uint64_t kTellBytes = 4u << 20;

uint64_t BytesOf(const RpcMessage& m) {
  uint64_t bytes = m.head.size();
  for (const SharedBytes& frame : m.frames) bytes += frame.view.size();
  return bytes;
}

}  // namespace

ZmqPeer::ZmqPeer(zmq::context_t& context, std::string name, std::string endpoint,
                 const CurveKeyPair& keys, const CurvePublicKey& server)
    : context_(context),
      name_(std::move(name)),
      endpoint_(std::move(endpoint)),
      keys_(keys),
      server_(server),
      only_one_(name_ == kCoordinatorAddress) {
  Open();
}

ZmqPeer::~ZmqPeer() {
  FailAll(absl::UnavailableError(name_ + ": the transport is closed"));
  Close();
}

void ZmqPeer::Open() {
  socket_ = NewSocket(context_, zmq::socket_type::dealer);
  BecomeCurveClient(socket_, keys_, server_);
  refusals_ = RefusalsOf(context_, socket_);
  socket_.connect(endpoint_);
  start_ = connection_ = 0;
  last_ping_ = first_ping_ = 0;
  refused_ = false;
  reopen_at_ = 0;
}

void ZmqPeer::Close() {
  if (refusals_) EndRefusals(socket_);
  socket_.close();
  refusals_.close();
}

void ZmqPeer::OpenAnew() {
  // Whatever waits inside the old socket goes with it.
  Close();
  Open();
}

void ZmqPeer::Add(WireCall call, int64_t now) {
  const uint64_t id = next_id_++;
  Pending& pending = calls_[id];
  pending.bytes = BytesOf(call.request);
  pending.by_deadline = deadlines_.emplace(call.deadline, id);
  pending.call = std::move(call);
  unsent_.push_back(id);
  if (waiting_since_ == 0) waiting_since_ = now;
  if (refused_) OpenAnew();  // It may have been admitted since.
}

void ZmqPeer::Receive(int64_t now) {
  constexpr int kAtOnce = 64;  // Other sockets want their turn.
  for (int i = 0; i < kAtOnce; ++i) {
    WireMessage message;
    const Status status = ReceiveMessage(socket_, message);
    if (absl::IsNotFound(status)) return;
    // The server proved that it has its key; a message that makes no sense is no sign of life.
    if (!status.ok()) continue;
    heard_ = true;
    down_ = false;
    waiting_since_ = calls_.empty() ? 0 : now;
    if (message.envelope.kind == Envelope::Kind::kPong) {
      OnPong(message.envelope);
    } else if (message.envelope.kind == Envelope::Kind::kReply) {
      OnReply(std::move(message), now);
    }
  }
}

void ZmqPeer::OnPong(const Envelope& pong) {
  if (pong.start == start_ && pong.connection == connection_) return;
  if (connection_ != 0) SendAllAgain();
  start_ = pong.start;
  connection_ = pong.connection;
  consumed_bytes_ = told_bytes_ = 0;
}

void ZmqPeer::SendAllAgain() {
  unsent_.clear();
  for (auto& [id, pending] : calls_) {
    pending.sent = false;
    unsent_.push_back(id);
  }
  sent_bytes_ = sent_calls_ = 0;
}

void ZmqPeer::OnReply(WireMessage message, int64_t now) {
  for (const SharedBytes& frame : message.frames) consumed_bytes_ += frame.view.size();
  consumed_bytes_ += message.head.size();
  if (consumed_bytes_ - told_bytes_ >= kTellBytes) Ping(now);
  auto it = calls_.find(message.envelope.id);
  if (it == calls_.end()) return;  // Overdue, or answered before.
  const WireCall call = Remove(it);
  if (message.envelope.code != absl::StatusCode::kOk) {
    return call.done(Status(message.envelope.code, message.head));
  }
  call.done(
      RpcMessage{message.envelope.method, std::move(message.head), std::move(message.frames)});
}

WireCall ZmqPeer::Remove(Calls::iterator it) {
  WireCall call = std::move(it->second.call);
  deadlines_.erase(it->second.by_deadline);
  if (it->second.sent) {
    sent_bytes_ -= it->second.bytes;
    --sent_calls_;
  }
  calls_.erase(it);
  if (calls_.empty()) waiting_since_ = 0;
  return call;
}

int64_t ZmqPeer::Tick(int64_t now) {
  EndOverdue(now);
  CheckRefusal(now);
  CheckSilence(now);
  if (calls_.empty() && !down_) return INT64_MAX;
  if (reopen_at_ != 0 && now >= reopen_at_) OpenAnew();
  if (connection_ == 0 && first_ping_ != 0 && now - first_ping_ > kConnectNanos) OpenAnew();
  const int64_t interval = connection_ == 0 && !down_ ? kFirstPingNanos : kPingNanos;
  if (last_ping_ == 0 || now - last_ping_ >= interval) Ping(now);
  Pump(now);
  const int64_t next_ping = last_ping_ + interval;
  return deadlines_.empty() ? next_ping : std::min(deadlines_.begin()->first, next_ping);
}

void ZmqPeer::Ping(int64_t now) {
  last_ping_ = now;
  if (first_ping_ == 0) first_ping_ = now;
  Envelope ping;
  ping.kind = Envelope::Kind::kPing;
  ping.connection = connection_;
  ping.consumed_bytes = told_bytes_ = consumed_bytes_;
  SendMessage(socket_, "", std::move(ping), "", {});
}

void ZmqPeer::Pump(int64_t now) {
  while (connection_ != 0 && !unsent_.empty()) {
    auto it = calls_.find(unsent_.front());
    if (it != calls_.end()) {
      const bool fits =
          sent_bytes_ + it->second.bytes <= kCreditBytes && sent_calls_ < kCreditCalls;
      if (sent_calls_ > 0 && !fits) return;
      if (!Send(it->first, it->second, now)) return;
    }
    unsent_.pop_front();
  }
}

bool ZmqPeer::Send(uint64_t id, Pending& pending, int64_t now) {
  Envelope envelope;
  envelope.kind = Envelope::Kind::kRequest;
  envelope.method = pending.call.request.method;
  envelope.id = id;
  envelope.address = name_;
  const int64_t left = std::clamp<int64_t>((pending.call.deadline - now) / kMilli, 1, UINT32_MAX);
  envelope.timeout_millis = static_cast<uint32_t>(left);
  envelope.connection = connection_;
  envelope.consumed_bytes = told_bytes_ = consumed_bytes_;
  const RpcMessage& request = pending.call.request;
  if (!SendMessage(socket_, "", std::move(envelope), request.head, request.frames)) return false;
  pending.sent = true;
  sent_bytes_ += pending.bytes;
  ++sent_calls_;
  return true;
}

void ZmqPeer::EndOverdue(int64_t now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const WireCall call = Remove(calls_.find(deadlines_.begin()->second));
    call.done(absl::UnavailableError(absl::StrCat(name_, ": no reply in time")));
  }
}

void ZmqPeer::CheckSilence(int64_t now) {
  if (waiting_since_ == 0) return;
  if (!down_ && now - waiting_since_ < kSilenceNanos) return;
  if (only_one_) {
    waiting_since_ = now;
    SendAllAgain();
    return OpenAnew();
  }
  const bool was_down = std::exchange(down_, true);
  FailAll(absl::UnavailableError(absl::StrCat(name_, " at ", endpoint_, ": nobody answers there")));
  if (!was_down) OpenAnew();
}

void ZmqPeer::CheckRefusal(int64_t now) {
  zmq::message_t event;
  if (refused_ || reopen_at_ != 0 || !refusals_.recv(event, zmq::recv_flags::dontwait)) return;
  if (!only_one_ || heard_) {
    reopen_at_ = now + (down_ ? kPingNanos : kRefusedNanos);
    return;
  }
  refused_ = true;
  FailAll(absl::PermissionDeniedError(
      absl::StrCat(name_, " at ", endpoint_,
                   ": it does not admit this key, which was revoked or is of another cluster")));
}

void ZmqPeer::FailAll(const Status& status) {
  std::vector<WireCall> failed;
  while (!calls_.empty()) failed.push_back(Remove(calls_.begin()));
  unsent_.clear();
  for (const WireCall& call : failed) call.done(status);
}

}  // namespace holdfast

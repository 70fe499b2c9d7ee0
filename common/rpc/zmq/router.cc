#include "common/rpc/zmq/router.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/rpc/zmq/zap.h"

namespace holdfast {
namespace {

constexpr int64_t kForgetNanos = 600'000 * kMilli;  // A caller that says nothing.
constexpr int64_t kForgetSweepNanos = 60'000 * kMilli;
constexpr int64_t kSweepNanos = 1000 * kMilli;
constexpr size_t kMaxRunning = 64;
constexpr size_t kMaxRunningPerCaller = 16;
constexpr uint64_t kMaxOwedBytes = 32u << 20;      // Replies a caller has not taken in.
constexpr uint64_t kMaxWaitingBytes = 128u << 20;  // Requests of all callers that wait.
constexpr size_t kMaxWaiting = 16'384;

uint64_t BytesOf(const std::string& head, const std::vector<SharedBytes>& frames) {
  uint64_t bytes = head.size();
  for (const SharedBytes& frame : frames) bytes += frame.view.size();
  return bytes;
}

}  // namespace

void Attachments::Add(const std::string& address, Service& service, Loop& loop) {
  std::lock_guard lock(mutex_);
  all_[address] = std::make_shared<Attachment>(service, loop);
}

std::shared_ptr<Attachment> Attachments::Remove(const std::string& address) {
  std::lock_guard lock(mutex_);
  auto it = all_.find(address);
  if (it == all_.end()) return nullptr;
  std::shared_ptr<Attachment> found = std::move(it->second);
  all_.erase(it);
  return found;
}

std::shared_ptr<Attachment> Attachments::Find(const std::string& address) {
  std::lock_guard lock(mutex_);
  auto it = all_.find(address);
  return it == all_.end() ? nullptr : it->second;
}

bool ZmqRouter::Caller::owed() const { return replied_bytes - consumed_bytes > kMaxOwedBytes; }

ZmqRouter::ZmqRouter(Parts parts, zmq::socket_t socket)
    : parts_(std::move(parts)), socket_(std::move(socket)) {}

void ZmqRouter::Receive(int64_t now) {
  constexpr int kAtOnce = 64;  // Other sockets want their turn.
  for (int i = 0; i < kAtOnce; ++i) {
    WireMessage message;
    std::string user;
    const Status status = ReceiveMessage(socket_, message, &user);
    if (absl::IsNotFound(status)) break;
    if (!status.ok()) {
      parts_.warn(absl::StrCat("dropped a message of ", user, ": ", status.message()));
      if (absl::IsFailedPrecondition(status)) Refuse(message, status);
      continue;
    }
    Caller& caller = callers_[message.routing_id];
    if (caller.connection == 0) caller.connection = ++connections_;
    caller.last_heard = now;
    if (message.envelope.connection == caller.connection) {
      caller.consumed_bytes = std::min(
          std::max(caller.consumed_bytes, message.envelope.consumed_bytes), caller.replied_bytes);
    }
    if (message.envelope.kind == Envelope::Kind::kPing) {
      OnPing(caller, message);
    } else if (message.envelope.kind == Envelope::Kind::kRequest) {
      const CurvePublicKey key = KeyOfUserId(user);
      const StatusOr<uint32_t> roles =
          parts_.authorise(key, message.envelope.address, message.envelope.method);
      if (roles.ok()) {
        OnRequest(caller, std::move(message), {key, *roles}, now);
      } else {
        parts_.warn(absl::StrCat("refused ", user, ": ", roles.status().message()));
        Refuse(message, roles.status());
      }
    }
  }
  StartWaiting(now);
}

void ZmqRouter::OnPing(const Caller& caller, const WireMessage& message) {
  Envelope pong;
  pong.kind = Envelope::Kind::kPong;
  pong.start = parts_.start;
  pong.connection = caller.connection;
  SendMessage(socket_, message.routing_id, std::move(pong), "", {});
}

void ZmqRouter::OnRequest(Caller& caller, WireMessage message, const ::holdfast::Caller& from,
                          int64_t now) {
  const uint64_t bytes = BytesOf(message.head, message.frames);
  if (waiting_ >= kMaxWaiting || waiting_bytes_ + bytes > kMaxWaitingBytes) {
    return Refuse(message, absl::UnavailableError("busy: too much waits already; try again"));
  }
  ++waiting_;
  waiting_bytes_ += bytes;
  const int64_t deadline = now + message.envelope.timeout_millis * kMilli;
  caller.waiting.push_back({std::move(message), from, deadline, bytes});
}

// In turn, so that one caller's many requests do not keep another's few.
void ZmqRouter::StartWaiting(int64_t now) {
  for (bool started = waiting_ > 0; started && running_ < kMaxRunning;) {
    started = false;
    for (auto& [routing_id, caller] : callers_) {
      if (caller.waiting.empty() || caller.running.size() >= kMaxRunningPerCaller || caller.owed())
        continue;
      Held held = std::move(caller.waiting.front());
      caller.waiting.pop_front();
      --waiting_;
      waiting_bytes_ -= held.bytes;
      started = true;
      if (held.deadline > now) Start(caller, std::move(held));
    }
  }
}

void ZmqRouter::Start(Caller& caller, Held held) {
  WireMessage& m = held.message;
  std::shared_ptr<Attachment> service = parts_.attachments.Find(m.envelope.address);
  if (service == nullptr) {
    return Refuse(m, absl::UnavailableError(m.envelope.address + ": nobody answers there"));
  }
  if (!caller.running.emplace(m.envelope.id, held.deadline).second) return;  // It came twice.
  ++running_;
  // The reply may be given on any thread, and after this router is gone: then the mailbox is
  // closed.
  ReplyFn reply = [this, mailbox = parts_.mailbox, routing_id = m.routing_id,
                   connection = caller.connection,
                   id = m.envelope.id](StatusOr<RpcMessage> result) {
    auto shared = std::make_shared<const StatusOr<RpcMessage>>(std::move(result));
    mailbox->Post([=, this] { Reply(routing_id, connection, id, *shared); });
  };
  auto request = std::make_shared<RpcMessage>(
      RpcMessage{m.envelope.method, std::move(m.head), std::move(m.frames), held.from});
  service->loop().Post([service, request, reply, address = m.envelope.address] {
    if (!service->Handle(std::move(*request), reply)) {
      reply(absl::UnavailableError(address + ": nobody answers there"));
    }
  });
}

void ZmqRouter::Reply(const std::string& routing_id, uint64_t connection, uint64_t id,
                      const StatusOr<RpcMessage>& result) {
  auto it = callers_.find(routing_id);
  if (it != callers_.end() && it->second.connection == connection) {
    running_ -= it->second.running.erase(id);
    Envelope envelope;
    envelope.kind = Envelope::Kind::kReply;
    envelope.id = id;
    envelope.code = result.status().code();
    const std::string head = result.ok() ? result->head : std::string(result.status().message());
    const std::vector<SharedBytes>& frames =
        result.ok() ? result->frames : std::vector<SharedBytes>();
    if (result.ok()) envelope.method = result->method;
    if (SendMessage(socket_, routing_id, std::move(envelope), head, frames)) {
      it->second.replied_bytes += BytesOf(head, frames);
    }
  }
  StartWaiting(SystemClock().MonotonicNanos());
}

void ZmqRouter::Refuse(const WireMessage& message, const Status& status) {
  Envelope envelope;
  envelope.kind = Envelope::Kind::kReply;
  envelope.id = message.envelope.id;
  envelope.code = status.code();
  SendMessage(socket_, message.routing_id, std::move(envelope), std::string(status.message()), {});
}

// A service that does not answer in time must not take the place of others for ever.
void ZmqRouter::ForgetOverdue(int64_t now) {
  for (auto& [routing_id, caller] : callers_) {
    running_ -= absl::erase_if(caller.running, [&](const auto& r) { return r.second < now; });
  }
}

int64_t ZmqRouter::Tick(int64_t now) {
  if (now >= next_sweep_) {
    ForgetOverdue(now);
    StartWaiting(now);
    next_sweep_ = now + kSweepNanos;
  }
  if (now >= next_forget_) {
    absl::erase_if(callers_, [&](const auto& entry) {
      const Caller& caller = entry.second;
      return caller.running.empty() && caller.waiting.empty() &&
             now - caller.last_heard > kForgetNanos;
    });
    next_forget_ = now + kForgetSweepNanos;
  }
  return next_sweep_;
}

}  // namespace holdfast

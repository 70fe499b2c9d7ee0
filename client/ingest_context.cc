#include "client/ingest_context.h"

#include <algorithm>
#include <utility>

#include "common/cluster/routes.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr int kAttempts = 4;

constexpr int64_t kFirstBackoffNanos = 250'000'000;
constexpr int64_t kMaxBackoffNanos = 4'000'000'000;

}  // namespace

struct IngestContext::Attempt {
  std::string address;
  RpcMessage request;
  ReplyFn done;
  int left = kAttempts;
  int64_t deadline_nanos = 0;  // Of what is tried again after the last attempt; 0: nothing is.
  int64_t backoff_nanos = kFirstBackoffNanos;
};

void IngestContext::Send(const std::shared_ptr<Attempt>& attempt) {
  const bool last = attempt->left == 1 && attempt->deadline_nanos == 0;
  RpcMessage request = last ? std::move(attempt->request) : attempt->request;
  vault.transport().Call(attempt->address, std::move(request), kRequestNanos,
                         [this, attempt](StatusOr<RpcMessage> reply) {
                           const bool again = absl::IsUnavailable(reply.status());
                           if (again && attempt->deadline_nanos > vault.clock().MonotonicNanos()) {
                             return SendLater(attempt, reply.status());
                           }
                           if (again && --attempt->left > 0) return Send(attempt);
                           attempt->done(std::move(reply));
                         });
}

void IngestContext::SendLater(const std::shared_ptr<Attempt>& attempt, const Status& why) {
  {
    MonitorLock lock(*monitor);
    waiting(why);
  }
  timer->PostAfter(attempt->backoff_nanos, [this, attempt] { Send(attempt); });
  attempt->backoff_nanos = std::min(2 * attempt->backoff_nanos, kMaxBackoffNanos);
}

IngestContext::IngestContext(Vault& vault_in, kernels::Engine& engine_in,
                             const IngestOptions& options_in, IngestProgress& progress_in)
    : vault(vault_in),
      engine(engine_in),
      options(options_in),
      progress(progress_in),
      monitor(vault_in.transport().NewMonitor()) {}

void IngestContext::Call(const std::string& address, RpcMessage request, ReplyFn done) {
  {
    MonitorLock lock(*monitor);
    ++calls;
  }
  auto attempt = std::make_shared<Attempt>();
  attempt->address = address;
  attempt->request = std::move(request);
  if (timer != nullptr && options.wait_nanos > 0 && address == kCoordinatorAddress) {
    attempt->left = 1;
    attempt->deadline_nanos = vault.clock().MonotonicNanos() + options.wait_nanos;
  }
  // After the last call is counted off, this context may be gone while its lock is let go.
  attempt->done = [this, keep = monitor, done = std::move(done)](StatusOr<RpcMessage> reply) {
    done(std::move(reply));
    MonitorLock lock(*keep);
    --calls;
  };
  Send(attempt);
}

RpcMessage IngestContext::SessionRequest() const {
  proto::OpenSessionRequest request;
  request.set_domain(ToString(vault.key().domain.bytes()));
  request.set_session(ToString(session.bytes()));
  request.set_epoch(epoch);
  request.set_generation(generation);
  return MakeMessage(rpc::kOpenSession, request);
}

Status IngestContext::TakeSession(const StatusOr<RpcMessage>& reply) {
  ASSIGN_OR_RETURN(const auto head, ReplyHead<proto::OpenSessionReply>(reply));
  ASSIGN_OR_RETURN(ClusterMap now, DecodePlacedMap(head.map()));
  RouteNodes(vault.transport(), now);
  MonitorLock lock(*monitor);
  epoch = head.epoch();
  generation = head.generation();
  if (map == nullptr || now.version > map->version) {
    map = std::make_shared<const ClusterMap>(std::move(now));
  }
  return absl::OkStatus();
}

Status IngestContext::OpenSession() {
  session = vault.rng().NewId<SessionId>();
  return TakeSession(CallAndWait(kCoordinatorAddress, SessionRequest()));
}

void IngestContext::RenewSession() {
  Call(kCoordinatorAddress, SessionRequest(), [this](const StatusOr<RpcMessage>& reply) {
    const Status status = TakeSession(reply);
    MonitorLock lock(*monitor);
    if (!status.ok()) Fail(status);
  });
}

StatusOr<RpcMessage> IngestContext::CallAndWait(const std::string& address,
                                                const RpcMessage& request) {
  StatusOr<RpcMessage> reply = absl::UnavailableError("not sent");
  for (int left = kAttempts; left > 0 && absl::IsUnavailable(reply.status()); --left) {
    reply = holdfast::CallAndWait(vault.transport(), address, request, kRequestNanos);
  }
  return reply;
}

void IngestContext::Await(const std::function<bool()>& condition) {
  if (!inline_mode()) return monitor->Await(condition);
  for (;;) {
    monitor->Await([&] { return pump_wanted || condition(); });
    if (!std::exchange(pump_wanted, false)) return;
    monitor->Unlock();
    pump();
    monitor->Lock();
  }
}

void IngestContext::Fail(const Status& status) {
  if (vault_error.ok()) vault_error = status;
}

void IngestContext::Drop(IngestObject* object) {
  if (--object->waits == 0) finished(std::unique_ptr<IngestObject>(object));
}

}  // namespace holdfast

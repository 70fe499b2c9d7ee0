#include "client/ingest_context.h"

#include <utility>

namespace holdfast {
namespace {

constexpr int kAttempts = 4;
constexpr int64_t kTimeoutNanos = 60'000'000'000;

struct Attempt {
  std::string address;
  RpcMessage request;
  ReplyFn done;
  int left = kAttempts;
};

void Send(Transport& transport, const std::shared_ptr<Attempt>& attempt) {
  RpcMessage request = attempt->left > 1 ? attempt->request : std::move(attempt->request);
  transport.Call(attempt->address, std::move(request), kTimeoutNanos,
                 [&transport, attempt](StatusOr<RpcMessage> reply) {
                   if (absl::IsUnavailable(reply.status()) && --attempt->left > 0) {
                     return Send(transport, attempt);
                   }
                   attempt->done(std::move(reply));
                 });
}

}  // namespace

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
  // After the last call is counted off, this context may be gone while its lock is let go.
  attempt->done = [this, keep = monitor, done = std::move(done)](StatusOr<RpcMessage> reply) {
    done(std::move(reply));
    MonitorLock lock(*keep);
    --calls;
  };
  Send(vault.transport(), attempt);
}

StatusOr<RpcMessage> IngestContext::CallAndWait(const std::string& address,
                                                const RpcMessage& request) {
  StatusOr<RpcMessage> reply = absl::UnavailableError("not sent");
  for (int left = kAttempts; left > 0 && absl::IsUnavailable(reply.status()); --left) {
    reply = holdfast::CallAndWait(vault.transport(), address, request, kTimeoutNanos);
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

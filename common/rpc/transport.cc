#include "common/rpc/transport.h"

#include <optional>

namespace holdfast {

StatusOr<RpcMessage> CallAndWait(Transport& transport, const std::string& address,
                                 RpcMessage request, int64_t timeout_nanos) {
  struct Pending {
    std::unique_ptr<Monitor> monitor;
    std::optional<StatusOr<RpcMessage>> reply;
  };
  // Shared with the callback, which may still be unlocking when this function has returned.
  auto pending = std::make_shared<Pending>();
  pending->monitor = transport.NewMonitor();
  transport.Call(address, std::move(request), timeout_nanos, [pending](StatusOr<RpcMessage> reply) {
    MonitorLock lock(*pending->monitor);
    pending->reply = std::move(reply);
  });
  MonitorLock lock(*pending->monitor);
  pending->monitor->Await([&] { return pending->reply.has_value(); });
  return std::move(*pending->reply);
}

}  // namespace holdfast

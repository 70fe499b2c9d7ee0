// The simulated network: every message takes a drawn time, may be lost and may come twice, and so
// requests and replies overtake one another. One thread, the SimLoop's.
#include <map>

#include "absl/strings/str_cat.h"
#include "common/rpc/transport.h"

namespace holdfast {
namespace {

struct Attachment {
  Service* service;
  Loop* loop;
};

// What delayed messages still need when the transport itself is gone.
struct Network {
  Network(SimLoop& l, Rng& r, SimNetworkOptions o)
      : loop(l), rng(r), options(o), wire(l.NewChannel()) {}

  bool Draw(double probability) {
    return static_cast<double>(rng.NextU64() >> 11) * 0x1p-53 < probability;
  }

  // Runs `deliver` later: once, twice or never.
  void Send(const Task& deliver) {
    int copies = 1;
    if (Draw(options.drop)) copies = 0;
    if (Draw(options.duplicate)) ++copies;
    while (copies-- > 0) {
      auto delay = rng.Below(static_cast<uint64_t>(options.max_delay_nanos) + 1);
      wire.PostAfter(static_cast<int64_t>(delay), deliver);
    }
  }

  SimLoop& loop;
  Rng& rng;
  const SimNetworkOptions options;
  Loop& wire;
  std::map<std::string, std::shared_ptr<Attachment>> attachments;
};

struct PendingCall {
  ReplyFn done;
};

void Finish(PendingCall& call, StatusOr<RpcMessage> result) {
  // The first of reply, duplicate reply and deadline ends the call.
  if (ReplyFn done = std::exchange(call.done, nullptr)) done(std::move(result));
}

// The request has reached the other side: hands it to whoever is attached there by now.
void Arrive(const std::shared_ptr<Network>& net, const std::string& address,
            const std::shared_ptr<const RpcMessage>& request,
            const std::shared_ptr<PendingCall>& call) {
  auto it = net->attachments.find(address);
  if (it == net->attachments.end()) return;
  std::weak_ptr<Attachment> target = it->second;
  it->second->loop->Post([net, target, request, call] {
    auto attachment = target.lock();
    if (!attachment) return;
    attachment->service->Handle(*request, [net, target, call](StatusOr<RpcMessage> result) {
      // A process that is gone sends nothing.
      if (target.expired()) return;
      net->Send([call, result] { Finish(*call, result); });
    });
  });
}

class SimTransport : public Transport {
 public:
  SimTransport(SimLoop& loop, Rng& rng, SimNetworkOptions options)
      : net_(std::make_shared<Network>(loop, rng, options)) {}

  void Attach(const std::string& address, Service& service, Loop& loop) override {
    net_->attachments[address] = std::make_shared<Attachment>(Attachment{&service, &loop});
  }

  void Detach(const std::string& address) override { net_->attachments.erase(address); }

  void Call(const std::string& address, RpcMessage request, int64_t timeout_nanos,
            ReplyFn done) override {
    // Apart from the call, so that a deadline far ahead does not keep a request's frames alive.
    auto sent = std::make_shared<const RpcMessage>(std::move(request));
    auto call = std::make_shared<PendingCall>(PendingCall{std::move(done)});
    net_->wire.PostAfter(timeout_nanos, [call, address] {
      Finish(*call, absl::UnavailableError(absl::StrCat(address, ": no reply in time")));
    });
    net_->Send([net = net_, address, sent, call] { Arrive(net, address, sent, call); });
  }

  std::unique_ptr<Monitor> NewMonitor() override { return net_->loop.NewMonitor(); }

 private:
  std::shared_ptr<Network> net_;
};

}  // namespace

std::unique_ptr<Transport> NewSimTransport(SimLoop& loop, Rng& rng, SimNetworkOptions options) {
  return std::make_unique<SimTransport>(loop, rng, options);
}

}  // namespace holdfast

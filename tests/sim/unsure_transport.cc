#include "tests/sim/unsure_transport.h"

#include "common/base/clock.h"

namespace holdfast::sim {
namespace {

class UnsureTransport : public Transport {
 public:
  UnsureTransport(std::unique_ptr<Transport> inner, SimLoop& loop, SimRng& rng,
                  const SimOptions& options, const bool& calm)
      : inner_(std::move(inner)),
        channel_(loop.NewChannel()),
        rng_(rng),
        late_(options.late),
        late_nanos_(options.late_nanos),
        lost_(options.lost),
        slow_nanos_(options.slow_nanos),
        slow_(NodeAddress(options.slow_nanos > 0 ? static_cast<uint32_t>(rng.Below(options.nodes))
                                                 : 0)),
        on_request_(options.on_request),
        on_reply_(options.on_reply),
        calm_(calm) {}
  void Attach(const std::string& address, Service& service, Loop& loop) override {
    inner_->Attach(address, service, loop);
  }
  void Detach(const std::string& address) override { inner_->Detach(address); }
  void Call(const std::string& address, RpcMessage request, int64_t timeout_nanos,
            ReplyFn done) override {
    if (on_request_) on_request_(address, request);
    const bool unsure = !calm_ && address.starts_with("node/");
    const bool again = unsure && Chance(late_);
    if (again) {
      channel_.PostAfter(static_cast<int64_t>(rng_.Below(late_nanos_)),
                         [inner = std::weak_ptr<Transport>(inner_), address, request] {
                           if (auto there = inner.lock()) {
                             there->Call(address, request, kSecond, [](const auto&) {});
                           }
                         });
    }
    if (on_reply_) {
      done = [this, method = request.method, done = std::move(done)](StatusOr<RpcMessage> reply) {
        on_reply_(method, reply);
        done(std::move(reply));
      };
    }
    const bool unanswered = unsure && Chance(lost_);
    const bool unheard = (again || unanswered) && rng_.Below(2) == 0;
    if (unheard || unanswered) {
      channel_.PostAfter(timeout_nanos, [address, done = std::move(done)] {
        done(absl::UnavailableError(address + ": no reply in time"));
      });
      if (unheard) return;
      done = [](const auto&) {};
    }
    if (!unsure || slow_nanos_ == 0 || address != slow_) {
      return inner_->Call(address, std::move(request), timeout_nanos, std::move(done));
    }
    channel_.PostAfter(static_cast<int64_t>(rng_.Below(slow_nanos_)),
                       [inner = std::weak_ptr<Transport>(inner_), address, request, timeout_nanos,
                        done = std::move(done)] {
                         if (auto there = inner.lock()) {
                           there->Call(address, request, timeout_nanos, done);
                         }
                       });
  }
  std::unique_ptr<Monitor> NewMonitor() override { return inner_->NewMonitor(); }

 private:
  bool Chance(double p) { return p > 0 && static_cast<double>(rng_.Below(1'000'000)) < p * 1e6; }

  std::shared_ptr<Transport> inner_;
  Loop& channel_;
  SimRng& rng_;
  const double late_;
  const int64_t late_nanos_;
  const double lost_;
  const int64_t slow_nanos_;
  const std::string slow_;
  const std::function<void(const std::string&, const RpcMessage&)> on_request_;
  const std::function<void(uint16_t, StatusOr<RpcMessage>&)> on_reply_;
  const bool& calm_;
};

}  // namespace

std::unique_ptr<Transport> NewUnsureTransport(std::unique_ptr<Transport> inner, SimLoop& loop,
                                              SimRng& rng, const SimOptions& options,
                                              const bool& calm) {
  return std::make_unique<UnsureTransport>(std::move(inner), loop, rng, options, calm);
}

}  // namespace holdfast::sim

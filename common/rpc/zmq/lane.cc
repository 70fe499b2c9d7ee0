#include "common/rpc/zmq/lane.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "common/base/clock.h"

namespace holdfast {
namespace {

constexpr int64_t kMaxSleepNanos = 1000 * kMilli;

int64_t Now() { return SystemClock().MonotonicNanos(); }

}  // namespace

ZmqLane::ZmqLane(zmq::context_t& context, const CurveKeyPair& keys, std::string name)
    : context_(context), keys_(keys), name_(std::move(name)), thread_([this] { Run(); }) {}

ZmqLane::~ZmqLane() {
  mailbox_->Post([this] { stopping_ = true; });
  thread_.join();
}

void ZmqLane::Serve(std::unique_ptr<ZmqRouter> router) {
  auto shared = std::make_shared<std::unique_ptr<ZmqRouter>>(std::move(router));
  mailbox_->Post([this, shared] { router_ = std::move(*shared); });
}

void ZmqLane::Route(const std::string& address, const std::string& endpoint,
                    const CurvePublicKey& server) {
  mailbox_->Post([=, this] {
    peers_.erase(address);
    if (endpoint.empty()) return;
    peers_[address] = std::make_unique<ZmqPeer>(context_, address, endpoint, keys_, server);
  });
}

void ZmqLane::Call(const std::string& address, WireCall call) {
  auto shared = std::make_shared<WireCall>(std::move(call));
  const bool posted = mailbox_->Post([this, address, shared] {
    auto it = peers_.find(address);
    if (it == peers_.end()) {
      return shared->done(absl::UnavailableError(address + ": nobody answers there"));
    }
    it->second->Add(std::move(*shared), Now());
  });
  if (!posted) shared->done(absl::UnavailableError(address + ": the transport is closed"));
}

void ZmqLane::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  for (;;) {
    for (const Task& task : mailbox_->Take()) task();
    if (stopping_) break;
    int64_t until = Now() + kMaxSleepNanos;
    if (router_ != nullptr) until = std::min(until, router_->Tick(Now()));
    for (auto& [address, peer] : peers_) until = std::min(until, peer->Tick(Now()));
    Poll(until);
  }
  mailbox_->Close();
  peers_.clear();
  router_.reset();
}

void ZmqLane::Poll(int64_t until) {
  std::vector<zmq::pollitem_t> items = {{nullptr, mailbox_->fd(), ZMQ_POLLIN, 0}};
  if (router_ != nullptr) items.push_back({router_->socket().handle(), 0, ZMQ_POLLIN, 0});
  for (auto& [address, peer] : peers_) {
    items.push_back({peer->socket().handle(), 0, ZMQ_POLLIN, 0});
  }
  const int64_t millis = (until - Now() + kMilli - 1) / kMilli;
  const bool idle = mailbox_->AboutToSleep();
  zmq::poll(items, std::chrono::milliseconds(idle ? std::max<int64_t>(millis, 0) : 0));
  size_t i = 1;
  if (router_ != nullptr && (items[i++].revents & ZMQ_POLLIN) != 0) router_->Receive(Now());
  for (auto& [address, peer] : peers_) {
    if ((items[i++].revents & ZMQ_POLLIN) != 0) peer->Receive(Now());
  }
}

}  // namespace holdfast

// bench: the way to each node of a cluster and back.
#include <algorithm>

#include "cli/bench_parts.h"
#include "common/base/clock.h"
#include "common/rpc/addresses.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

constexpr int kRoundTrips = 200;
constexpr uint32_t kMessage = 2u << 20;  // As a client puts and gets.
constexpr int kUnderWay = 8;
constexpr double kStreamNanos = 1e9;

RpcMessage Probe(const SharedBytes& frame, uint32_t reply_bytes) {
  proto::NodeProbeRequest request;
  request.set_reply_bytes(reply_bytes);
  RpcMessage message = MakeMessage(rpc::kNodeProbe, request);
  if (!frame.view.empty()) message.frames.push_back(frame);
  return message;
}

class NodeBench {
 public:
  NodeBench(Transport& transport, uint32_t node, double scale)
      : transport_(transport),
        address_(NodeAddress(node)),
        nanos_(static_cast<int64_t>(kStreamNanos * scale)) {}

  StatusOr<Json> Run() {
    std::vector<double> seconds;
    for (int i = 0; i < kRoundTrips; ++i) {
      const int64_t start = SystemClock().MonotonicNanos();
      RETURN_IF_ERROR(CallAndWait(transport_, address_, Probe({}, 0), kRequestNanos).status());
      seconds.push_back(static_cast<double>(SystemClock().MonotonicNanos() - start) / kSecond);
    }
    std::sort(seconds.begin(), seconds.end());
    const SharedBytes frame = SharedBytes::Own(Buffer(kMessage, 0x5a));
    ASSIGN_OR_RETURN(const double put, Stream(Probe(frame, 0)));
    ASSIGN_OR_RETURN(const double get, Stream(Probe({}, kMessage)));
    return Json{{"round_trip_seconds_p50", seconds[kRoundTrips / 2]},
                {"round_trip_seconds_p99", seconds[kRoundTrips * 99 / 100]},
                {"put_bytes_per_second", put},
                {"get_bytes_per_second", get}};
  }

 private:
  // Keeps some under way for a while; bytes per second of their frames, whichever way these go.
  StatusOr<double> Stream(const RpcMessage& request) {
    absl::Mutex mutex;
    int under_way = 0;
    uint64_t done = 0;
    Status failed;
    const int64_t start = SystemClock().MonotonicNanos();
    while (SystemClock().MonotonicNanos() - start < nanos_) {
      {
        absl::MutexLock lock(&mutex);
        const auto room = [&] { return under_way < kUnderWay; };
        mutex.Await(absl::Condition(&room));
        if (!failed.ok()) break;
        ++under_way;
      }
      transport_.Call(address_, request, kRequestNanos, [&](StatusOr<RpcMessage> reply) {
        absl::MutexLock lock(&mutex);
        --under_way;
        failed.Update(reply.status());
        done += reply.ok();
      });
    }
    absl::MutexLock lock(&mutex);
    const auto all = [&] { return under_way == 0; };
    mutex.Await(absl::Condition(&all));
    if (!failed.ok()) return failed;
    const double seconds = static_cast<double>(SystemClock().MonotonicNanos() - start) / kSecond;
    return static_cast<double>(done * kMessage) / seconds;
  }

  Transport& transport_;
  const std::string address_;
  const int64_t nanos_;
};

}  // namespace

StatusOr<Json> MeasureNetwork(Transport& transport,
                              const std::vector<OpenedVault::NodeState>& nodes, double scale) {
  Json all = Json::array();
  for (const OpenedVault::NodeState& node : nodes) {
    StatusOr<Json> measured = NodeBench(transport, node.number, scale).Run();
    Json row{{"node", node.number}, {"endpoint", node.path}};
    if (measured.ok()) {
      row.update(*measured);
    } else {
      row["error"] = Message(measured.status());
    }
    all.push_back(std::move(row));
  }
  return all;
}

}  // namespace holdfast::cli

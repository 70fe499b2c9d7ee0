#include "tests/node/node_rig.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <future>

#include "absl/strings/str_cat.h"
#include "common/kv/rocks_kv.h"
#include "node/findings.h"

namespace holdfast {

RecordId IdOf(uint64_t n) {
  SimRng rng(n * 2 + 1);
  return rng.NewId<RecordId>();
}

Buffer PayloadOf(uint64_t n, size_t size) {
  Buffer payload(size);
  SimRng rng(n * 2 + 2);
  rng.Fill(payload);
  return payload;
}

RpcMessage PutMessage(const std::vector<PutItem>& items, uint64_t epoch) {
  proto::NodePutRequest head;
  head.set_session_epoch(epoch);
  head.set_domain(std::string(DomainId::kSize, 'd'));
  head.set_writer(std::string(WriterId::kSize, 'w'));
  std::vector<SharedBytes> frames;
  for (const PutItem& item : items) {
    proto::PutEntry& entry = *head.add_entries();
    entry.set_id(ToString(item.id.bytes()));
    entry.set_kind(static_cast<uint32_t>(item.kind));
    entry.set_number(item.number);
    entry.set_checksum(ToString(ChecksumOf(item.payload).bytes()));
    entry.set_replace(item.replace);
    frames.push_back(SharedBytes::Own(item.payload));
  }
  RpcMessage message = MakeMessage(rpc::kNodePut, head);
  message.frames = std::move(frames);
  return message;
}

namespace {

std::string Join(const std::vector<RecordId>& ids) {
  std::string all;
  for (const RecordId& id : ids) all += ToString(id.bytes());
  return all;
}

template <class Proto>
Proto Head(const StatusOr<RpcMessage>& reply) {
  EXPECT_TRUE(reply.ok()) << reply.status();
  if (!reply.ok()) return {};
  auto head = ParseHead<Proto>(*reply);
  EXPECT_TRUE(head.ok());
  return *head;
}

}  // namespace

RpcMessage PinMessage(const std::vector<RecordId>& ids, uint64_t epoch) {
  proto::NodePinRequest head;
  head.set_session_epoch(epoch);
  head.set_ids(Join(ids));
  return MakeMessage(rpc::kNodePin, head);
}

RpcMessage IdsMessage(uint16_t method, const std::vector<RecordId>& ids) {
  proto::NodeGetRequest head;  // The same shape as NodeStatRequest.
  head.set_ids(Join(ids));
  return MakeMessage(method, head);
}

std::string NodeRig::SegmentPath(uint64_t number) const {
  return holdfast::SegmentPath(options_.dir, number);
}

proto::NodePutReply NodeRig::Put(const std::vector<PutItem>& items, uint64_t epoch) {
  return Head<proto::NodePutReply>(Call(PutMessage(items, epoch)));
}

proto::NodePinReply NodeRig::Pin(const std::vector<RecordId>& ids, uint64_t epoch) {
  return Head<proto::NodePinReply>(Call(PinMessage(ids, epoch)));
}

std::vector<NodeRig::Got> NodeRig::Get(const std::vector<RecordId>& ids) {
  StatusOr<RpcMessage> reply = Call(IdsMessage(rpc::kNodeGet, ids));
  auto head = Head<proto::NodeGetReply>(reply);
  std::vector<Got> got(ids.size());
  EXPECT_EQ(head.answers_size(), static_cast<int>(ids.size()));
  for (size_t i = 0; i < ids.size() && reply.ok(); ++i) {
    const Bytes frame = reply->frames.at(i).view;
    got[i] = {head.answers(i).status(), Buffer(frame.begin(), frame.end()),
              head.answers(i).touch_epoch()};
  }
  return got;
}

proto::NodeStatReply NodeRig::Stat(const std::vector<RecordId>& ids) {
  return Head<proto::NodeStatReply>(Call(IdsMessage(rpc::kNodeStat, ids)));
}

proto::NodeStatusReply NodeRig::NodeStatus() {
  return Head<proto::NodeStatusReply>(
      Call(MakeMessage(rpc::kNodeStatus, proto::NodeStatusRequest())));
}

proto::NodeCheckSegmentReply NodeRig::Check(const proto::NodeCheckSegmentRequest& head) {
  return Head<proto::NodeCheckSegmentReply>(Call(MakeMessage(rpc::kNodeCheckSegment, head)));
}

std::vector<Finding> NodeRig::CheckAll(bool all_payloads, bool renew) {
  std::vector<Finding> findings;
  uint64_t number = 0;
  do {
    proto::NodeCheckSegmentRequest head;
    head.set_segment_number(number);
    head.set_all_payloads(all_payloads);
    head.set_renew(renew);
    auto reply = Check(head);
    findings.insert(findings.end(), reply.findings().begin(), reply.findings().end());
    number = reply.next_segment_number();
  } while (number != 0);
  return findings;
}

void NodeRig::PutPresent(const PutItem& item, uint64_t epoch) {
  auto reply = Put({item}, epoch);
  ASSERT_EQ(reply.answers_size(), 1);
  EXPECT_EQ(reply.answers(0).status(), proto::PRESENT);
  EXPECT_EQ(reply.answers(0).stored_length(), item.payload.size());
}

proto::RecordStatus NodeRig::PinOne(const RecordId& id, uint64_t epoch) {
  auto reply = Pin({id}, epoch);
  return reply.answers_size() == 1 ? reply.answers(0).status() : proto::RECORD_STATUS_UNSPECIFIED;
}

SimRig::SimRig(uint64_t seed)
    : rng(seed),
      sim_fs(seed),
      sim(clock, rng),
      loop(sim.NewChannel()),
      others(NewSimTransport(sim, rng, {})) {
  options_.dir = "/disk";
  options_.vault.value.fill(1);
  options_.node.value.fill(2);
  options_.node_number = 3;
  options_.segment_bytes = 256u << 10;
  options_.batch_bytes = 32u << 10;
  options_.allocate_bytes = 64u << 10;
  options_.index_flush_bytes = 300u << 10;
  const Status status = Node::Format(options_, sim_fs, rng);
  EXPECT_TRUE(status.ok()) << status;
}

SimRig::~SimRig() { Kill(); }

Status SimRig::Open() {
  NodeEnv env{sim_fs,
              clock,
              rng,
              loop,
              sim.executor(),
              [this](bool create) -> StatusOr<std::unique_ptr<Kv>> {
                if (!create && !index_exists) return absl::NotFoundError("no index");
                index_exists = true;
                return OpenMemKv(kv, false);
              },
              [this] {
                kv.Wipe();
                return absl::OkStatus();
              },
              others.get()};
  ASSIGN_OR_RETURN(node_, Node::Open(options_, env));
  return absl::OkStatus();
}

Status SimRig::Close() {
  Status closed = absl::UnknownError("not closed");
  bool done = false;
  node_->Close([&](Status status) {
    closed = status;
    done = true;
  });
  sim.RunUntil([&] { return done; });
  Kill();
  return closed;
}

std::shared_ptr<SimRig::Pending> SimRig::Send(RpcMessage request) {
  auto pending = std::make_shared<Pending>();
  node_->Handle(std::move(request), [pending](StatusOr<RpcMessage> reply) {
    EXPECT_FALSE(pending->done) << "answered twice";
    pending->done = true;
    pending->reply = std::move(reply);
  });
  return pending;
}

StatusOr<RpcMessage> SimRig::Call(RpcMessage request) {
  auto pending = Send(std::move(request));
  sim.RunUntil([&] { return pending->done; });
  return std::move(pending->reply);
}

void SimRig::RunFor(int64_t nanos) {
  bool due = false;
  loop.PostAfter(nanos, [&] { due = true; });
  sim.RunUntil([&] { return due; });
}

void SimRig::WipeIndex() {
  kv.Wipe();
  index_exists = false;
}

void SimRig::Kill() {
  node_.reset();
  sim.Clear();
}

void SimRig::PowerCut() {
  if (sim_fs.powered()) sim_fs.PowerCut();
  Kill();
  kv.Crash(rng);
  sim_fs.Reboot();
}

DiskRig::DiskRig() {
  std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-node-XXXXXX").string();
  root_ = mkdtemp(pattern.data());
  options_.dir = root_ + "/disk";
  options_.vault.value.fill(1);
  options_.node.value.fill(2);
  options_.segment_bytes = 4u << 20;
  options_.allocate_bytes = 1u << 20;
  options_.read_only_fraction = 1.0;
  const Status status = Node::Format(options_, PosixFs(), SecureRng());
  EXPECT_TRUE(status.ok()) << status;
}

DiskRig::~DiskRig() {
  if (node_) {
    EXPECT_TRUE(Close().ok());
  }
  std::filesystem::remove_all(root_);
}

Status DiskRig::Open() {
  loop_ = NewThreadLoop("node");
  io_ = NewThreadPool(2, "io");
  RocksKvOptions kv;
  kv.wal = false;
  kv.bloom = true;
  NodeEnv env{PosixFs(),
              SystemClock(),
              SecureRng(),
              *loop_,
              *io_,
              [this, kv](bool create) { return OpenRocksKv(options_.dir + "/index", create, kv); },
              [this] { return DestroyRocksKv(options_.dir + "/index"); }};
  ASSIGN_OR_RETURN(node_, Node::Open(options_, env));
  return absl::OkStatus();
}

Status DiskRig::Close() {
  std::promise<Status> closed;
  loop_->Post([&] { node_->Close([&](Status status) { closed.set_value(status); }); });
  Status status = closed.get_future().get();
  std::promise<void> gone;
  loop_->Post([&] {
    node_.reset();
    gone.set_value();
  });
  gone.get_future().wait();
  io_.reset();
  loop_.reset();
  return status;
}

StatusOr<RpcMessage> DiskRig::Call(RpcMessage request) {
  std::promise<StatusOr<RpcMessage>> replied;
  loop_->Post([&] {
    node_->Handle(std::move(request),
                  [&](StatusOr<RpcMessage> reply) { replied.set_value(std::move(reply)); });
  });
  return replied.get_future().get();
}

void DiskRig::WipeIndex() { EXPECT_TRUE(DestroyRocksKv(options_.dir + "/index").ok()); }

std::string Show(const std::vector<Finding>& findings) {
  std::string all;
  for (const Finding& finding : findings) {
    absl::StrAppend(&all, Finding::Class_Name(finding.class_()), " ", finding.text(), "\n");
  }
  return all;
}

int Count(const std::vector<Finding>& findings, Finding::Class finding_class) {
  int n = 0;
  for (const Finding& finding : findings) n += finding.class_() == finding_class;
  return n;
}

}  // namespace holdfast

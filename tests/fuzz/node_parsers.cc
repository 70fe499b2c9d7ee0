// A node's disk made of any bytes: superblock, segments, index.
#include "common/base/loop.h"
#include "common/crypto/domain_keys.h"
#include "common/io/sim_fs.h"
#include "common/kv/mem_kv.h"
#include "common/rpc/methods.h"
#include "common/rpc/transport.h"
#include "node/batch.h"
#include "node/findings.h"
#include "node/index.h"
#include "node/node.h"
#include "tests/fuzz/parser_tools.h"
#include "tests/fuzz/segment_bytes.h"

namespace holdfast::fuzz {
namespace {

constexpr uint8_t kSegments = 8;
const RecordId kId = Counting<RecordId>(0xc0);

NodeOptions Options() {
  NodeOptions options;
  options.dir = "/node";
  options.vault = Counting<VaultId>(0x10);
  options.node = Counting<NodeId>(0x30);
  options.node_number = 2;
  options.segment_bytes = 1u << 20;
  options.batch_bytes = 64u << 10;
  options.allocate_bytes = 64u << 10;
  options.read_only_fraction = 1.0;
  return options;
}

// A node on such a disk, which opens, answers and closes.
class Disk {
 public:
  Disk() { Must(fs_.CreateDir("/node").ok() && fs_.CreateDir("/node/segments").ok(), "make"); }
  void Put(const std::string& path, Bytes bytes) {
    OpenOptions options;
    options.write = options.create = true;
    auto file = fs_.Open(path, options).value();
    Must(file->WriteAt(0, bytes).ok() && file->DataSync().ok(), "write");
  }

  // False when it cannot be opened.
  bool Use() {
    NodeEnv env{fs_,
                clock_,
                rng_,
                loop_.NewChannel(),
                loop_.executor(),
                [this](bool) -> StatusOr<std::unique_ptr<Kv>> { return OpenMemKv(kv_, false); },
                [this] {
                  kv_.Wipe();
                  return absl::OkStatus();
                }};
    auto node = Node::Open(Options(), env);
    if (!node.ok()) return false;
    Ask(**node);
    bool closed = false;
    (*node)->Close([&](const Status&) { closed = true; });
    loop_.RunUntil([&] { return closed; });
    node->reset();
    loop_.Clear();
    return true;
  }

 private:
  void Call(Node& node, RpcMessage request) {
    auto answered = std::make_shared<bool>(false);
    node.Handle(std::move(request), [answered](const StatusOr<RpcMessage>&) { *answered = true; });
    loop_.RunUntil([&] { return *answered; });
  }

  void Ask(Node& node) {
    Call(node, MakeMessage(rpc::kNodeStatus, proto::NodeStatusRequest()));
    for (uint8_t number = 1; number <= kSegments; ++number) {
      proto::NodeCheckSegmentRequest request;
      request.set_segment_number(number);
      request.set_all_payloads(true);
      Call(node, MakeMessage(rpc::kNodeCheckSegment, request));
    }
    Call(node, MakeMessage(rpc::kNodeListCommits, proto::NodeListCommitsRequest()));
    proto::NodeGetRequest get;
    get.set_ids(ToString(kId.bytes()));
    Call(node, MakeMessage(rpc::kNodeGet, get));
    PutOne(node);
  }

  void PutOne(Node& node) {
    const Buffer payload(100, 7);
    proto::NodePutRequest request;
    request.set_session_epoch(7);
    request.set_domain(std::string(16, 'd'));
    request.set_writer(std::string(16, 'w'));
    auto& entry = *request.add_entries();
    entry.set_id(std::string(32, 'i'));
    entry.set_kind(static_cast<uint32_t>(RecordKind::kChunk));
    entry.set_checksum(ToString(ChecksumOf(payload).bytes()));
    RpcMessage message = MakeMessage(rpc::kNodePut, request);
    message.frames.push_back(SharedBytes::Own(payload));
    Call(node, std::move(message));
  }

  SimFs fs_{1};
  SimClock clock_;
  SimRng rng_{1};
  SimLoop loop_{clock_, rng_};
  MemKvDisk kv_;
};

// A byte of options; then files, each a byte that says which (0: the superblock) and its bytes
// after a 32-bit length.
void DiskParser(Bytes input) {
  Reader reader(input);
  const uint8_t how = reader.U8();
  Disk disk;
  while (reader.ok() && !reader.rest().empty()) {
    const uint8_t which = reader.U8() % (kSegments + 1);
    Buffer bytes = ToBuffer(UpTo(reader, reader.U32()));
    if (how & kFixHeaders) {
      const size_t slots = which == 0 ? 2 : 1;
      for (size_t at = 0; at < slots * kBlockSize && at + kBlockSize <= bytes.size();
           at += kBlockSize) {
        FixCrc(MutableBytes(bytes).subspan(at, kBlockSize));
      }
    }
    if (which == 0) {
      disk.Put("/node/superblock", bytes);
      continue;
    }
    if (bytes.size() > kBlockSize) FixSegment(MutableBytes(bytes).subspan(kBlockSize), how);
    disk.Put(SegmentPath("/node", which), bytes);
  }
  if (!disk.Use()) return;
  Must(disk.Use(), "what a node has opened and closed opens again");
}

void AppendFile(Buffer& disk, uint8_t which, Bytes bytes) {
  Writer writer(disk);
  writer.U8(which);
  writer.Blob(bytes);
}

Buffer SuperblockFile(uint64_t number, const SegmentId& segment) {
  Superblock superblock;
  superblock.vault = Options().vault;
  superblock.node = Options().node;
  superblock.node_number = 2;
  superblock.synced_segment = segment;
  superblock.synced_segment_number = number;
  superblock.synced_lsn = 1;
  Buffer file;
  for (const uint64_t sequence : {2, 1}) {
    superblock.sequence = sequence;
    Append(file, EncodeSuperblock(superblock));
  }
  return file;
}

Buffer SegmentFile(uint64_t number, const SegmentId& segment, const SegmentId& previous) {
  SegmentHeader header;
  header.vault = Options().vault;
  header.node = Options().node;
  header.segment = segment;
  header.number = number;
  header.previous = previous;
  header.previous_end = previous.is_zero() ? 0 : 2 * kBlockSize;
  Buffer file = ToBuffer(EncodeSegmentHeader(header));
  Batch batch{AlignedBuffer(1u << 16)};
  RecordHeader record;
  record.id = kId;
  record.touch_epoch = 6;
  for (const RecordKind kind : {RecordKind::kChunk, RecordKind::kCommitRecord}) {
    record.kind = kind;
    record.number = kind == RecordKind::kCommitRecord ? 19 : 0;
    const Buffer payload(40, static_cast<uint8_t>(kind));
    record.length = 40;
    record.checksum = ChecksumOf(payload);
    batch.Add(record, payload);
    record.id = Counting<RecordId>(0x01);
  }
  batch.AddTouch(7, kId);
  batch.AddTrash({2, 5, 8, false}, std::span(&kId, 1));
  batch.AddQuarantine({kId, number, kBlockSize + kBatchHeaderSize});
  const DroppedRange range{1, 4096, 8192};
  batch.AddDropped(std::span(&range, 1));
  Append(file, batch.Finish(segment, 1, 0));
  return file;
}

std::vector<Buffer> DiskSeeds() {
  const SegmentId first = Counting<SegmentId>(0x50), second = Counting<SegmentId>(0x70);
  const SegmentId third = Counting<SegmentId>(0x90);
  std::vector<Buffer> seeds;
  for (const uint8_t how : {0, 3}) {
    Buffer& one = seeds.emplace_back(Buffer{how});
    AppendFile(one, 0, SuperblockFile(1, first));
    AppendFile(one, 1, SegmentFile(1, first, {}));
    Buffer& two = seeds.emplace_back(Buffer{how});
    AppendFile(two, 0, SuperblockFile(2, second));
    AppendFile(two, 1, SegmentFile(1, first, {}));
    AppendFile(two, 2, SegmentFile(2, second, first));
    Buffer& holes = seeds.emplace_back(Buffer{how});
    AppendFile(holes, 0, SuperblockFile(3, third));
    AppendFile(holes, 3, SegmentFile(3, third, second));
    Buffer& golden = seeds.emplace_back(Buffer{how});
    AppendFile(golden, 0, GoldenFile("superblock.hex"));
    Buffer segment = GoldenFile("segment-header.hex");
    Append(segment, GoldenFile("batch.hex"));
    AppendFile(golden, 3, segment);
    AppendFile(golden, 2, GoldenFile("segment-header-freed.hex"));
  }
  return seeds;
}

// Rows of a node's index, each a key after its 8-bit length and a value after its 16-bit one.
void IndexParser(Bytes input) {
  MemKvDisk disk;
  std::shared_ptr<Kv> kv = OpenMemKv(disk, false);
  KvBatch rows;
  for (Reader reader(input); reader.ok() && !reader.rest().empty();) {
    std::string key = ToString(UpTo(reader, reader.U8()));
    rows.push_back({std::move(key), ToString(UpTo(reader, reader.U16()))});
  }
  if (!kv->Write(rows, false).ok()) return;  // A key that no database holds.
  const auto index = Index::Open(kv);
  if (!index.ok()) return;
  (void)(*index)->Find({kId});
  (void)(*index)->List({}, {}, 100);
  (void)(*index)->Commits(0, 100);
  (void)(*index)->CountQuarantined();
  (void)(*index)->SetAside(kId);
  (void)(*index)->Proofs({kId}, Counting<WriterId>(0xa0));
  (void)(*index)->DroppedRanges(0);
  (void)(*index)->DroppedRanges(1);
  (void)(*index)->Verified();
  (void)(*index)->Provers(kId, {1, 4096});
  (void)Index::Scan(*kv, [](const RecordId&, const IndexEntry&) { return true; });
  (void)Index::ScanSetAside(*kv, [](const RecordId&, const IndexEntry&) { return true; });
}

// What an index writes.
std::vector<Buffer> IndexSeeds() {
  MemKvDisk disk;
  std::shared_ptr<Kv> kv = OpenMemKv(disk, false);
  const auto index = Index::Open(kv).value();
  IndexDelta delta(*index);
  RecordHeader header;
  header.id = kId;
  header.lsn = 1;
  header.writer = Counting<WriterId>(0xa0);
  Must(delta.AddRecord(header, {1, 4096}).ok(), "add");
  header.writer = Counting<WriterId>(0xb0);
  header.lsn = 2;
  Must(delta.AddRecord(header, {1, 8192}).ok(), "add");
  header.id = Counting<RecordId>(0x01);
  header.kind = RecordKind::kCommitRecord;
  header.number = 19;
  Must(delta.AddRecord(header, {1, 12'288}, true).ok(), "add");
  Must(delta.AddTrash({2, 5, 7, true}, std::span(&kId, 1)).ok(), "trash");
  delta.AddProof(kId, header.writer, {1, 4096});
  delta.AddDropped({{1, 4096, 8192}, 3, false});
  delta.SetCheckpoint({1, Counting<SegmentId>(0x50), 4096, 16'384, 3});
  delta.SetVerified(1, 5);
  delta.SetStale(1);
  Must(index->Apply(std::move(delta)).ok(), "apply");
  std::vector<Buffer> seeds(1);
  const Status scanned = kv->Scan("", "", [&](std::string_view key, std::string_view value) {
    Buffer row;
    Writer writer(row);
    writer.U8(static_cast<uint8_t>(key.size()));
    writer.Raw(AsBytes(key));
    writer.U16(static_cast<uint16_t>(value.size()));
    writer.Raw(AsBytes(value));
    Append(seeds[0], row);
    seeds.push_back(row);
    return true;
  });
  Must(scanned.ok(), "scan");
  return seeds;
}

}  // namespace

std::vector<Parser> NodeParsers() {
  return {{"node-disk", DiskParser, DiskSeeds}, {"node-index", IndexParser, IndexSeeds}};
}

}  // namespace holdfast::fuzz

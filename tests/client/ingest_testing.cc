#include "tests/client/ingest_testing.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "client/reader.h"
#include "common/rpc/methods.h"

namespace holdfast::testing {
namespace {

void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

}  // namespace

void Recorder::OnObject(const std::string& name, const VersionId& version, ObjectState state) {
  EXPECT_FALSE(inside_.exchange(true));
  EXPECT_FALSE(version.is_zero());
  order.push_back(name);
  EXPECT_TRUE(objects.emplace(name, state).second) << name << " reported twice";
  inside_ = false;
}

void Recorder::OnError(const std::string& name, const Status& status) {
  EXPECT_FALSE(inside_.exchange(true));
  EXPECT_TRUE(errors.emplace(name, status).second) << name << " reported twice";
  inside_ = false;
}

void Recorder::OnSkipped(const std::string& name) {
  EXPECT_FALSE(inside_.exchange(true));
  skipped.push_back(name);
  inside_ = false;
}

IngestRig::IngestRig(const RigOptions& options)
    : options_(options), sim_rng_(options.seed), sim_loop_(clock_, sim_rng_) {
  if (options_.threaded) {
    char pattern[] = "/tmp/holdfast_ingest_XXXXXX";
    dir_ = ::mkdtemp(pattern);
    transport_ = NewInProcessTransport();
    io_ = NewThreadPool(2, "io");
  } else {
    sim_fs_ = std::make_unique<SimFs>(options_.seed);
    transport_ = NewSimTransport(sim_loop_, sim_rng_, options_.network);
  }
  Rng& rng = options_.threaded ? SecureRng() : sim_rng_;
  Clock& clock = options_.threaded ? SystemClock() : clock_;
  key_ = *GenerateKeyFile(rng, rng.NewId<VaultId>());
  map_.replicas = options_.replicas;
  for (uint32_t i = 0; i < options_.nodes; ++i) {
    MapNode node;
    node.number = i;
    node.id = rng.NewId<NodeId>();
    node.failure_domain = "disk" + std::to_string(i);
    map_.nodes.push_back(node);
  }
  ComputePlacement(map_);
  for (uint32_t i = 0; i < options_.nodes; ++i) OpenNode(i);
  catalogue_ = OpenMemKv(catalogue_disk_, true);
  const CoordinatorOptions co{key_.vault, key_.domain, DeriveCatalogueKeys(key_.catalogue_key),
                              map_};
  Must(Coordinator::Format(co, *catalogue_, clock));
  Loop& loop = NewLoop("coordinator");
  coordinator_ = *Coordinator::Open(co, CoordinatorEnv{clock, rng, loop, *transport_, *catalogue_});
  coordinator_front_.target = coordinator_.get();
  transport_->Attach(kCoordinatorAddress, coordinator_front_, loop);
  vault_ = std::make_unique<Vault>(*transport_, key_, VaultParams{key_.domain, options_.chunk_size},
                                   clock, rng);
  engine_ = kernels::MakePortableEngine(vault_->engine_options());
}

IngestRig::~IngestRig() {
  vault_.reset();
  if (options_.threaded) {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      std::unique_ptr<Monitor> monitor = NewThreadMonitor();
      bool closed = false;
      node_loops_[i]->Post([&] {
        nodes_[i]->Close([&](Status) {
          MonitorLock lock(*monitor);
          closed = true;
        });
      });
      MonitorLock lock(*monitor);
      monitor->Await([&] { return closed; });
    }
    transport_->Detach(kCoordinatorAddress);
    for (uint32_t i = 0; i < nodes_.size(); ++i) transport_->Detach(NodeAddress(i));
    io_.reset();
    loops_.clear();
  }
  sim_loop_.Clear();
  coordinator_.reset();
  nodes_.clear();
  transport_.reset();
  if (!dir_.empty()) std::filesystem::remove_all(dir_);
}

Loop& IngestRig::NewLoop(const char* name) {
  if (!options_.threaded) return sim_loop_.NewChannel();
  loops_.push_back(NewThreadLoop(name));
  return *loops_.back();
}

NodeOptions IngestRig::node_options(uint32_t i) const {
  NodeOptions options;
  options.dir = dir_ + "/node-" + std::to_string(i);
  options.vault = key_.vault;
  options.node = map_.nodes[i].id;
  options.node_number = i;
  options.segment_bytes = options_.threaded ? 256u << 20 : 4u << 20;
  if (!options_.threaded) options.batch_bytes = 256u << 10;
  if (!options_.threaded) options.allocate_bytes = 1u << 20;
  options.read_only_fraction = 0.999;
  return options;
}

void IngestRig::OpenNode(uint32_t i) {
  Rng& rng = options_.threaded ? SecureRng() : sim_rng_;
  Clock& clock = options_.threaded ? SystemClock() : clock_;
  Fs& fs = options_.threaded ? PosixFs() : *sim_fs_;
  Executor& io = options_.threaded ? *io_ : sim_loop_.executor();
  Must(Node::Format(node_options(i), fs, rng));
  index_disks_.push_back(std::make_unique<MemKvDisk>());
  MemKvDisk* disk = index_disks_.back().get();
  Loop& loop = NewLoop("node");
  node_loops_.push_back(&loop);
  NodeEnv env{fs,
              clock,
              rng,
              loop,
              io,
              [disk](bool) -> StatusOr<std::unique_ptr<Kv>> { return OpenMemKv(*disk, false); },
              [disk] {
                disk->Wipe();
                return absl::OkStatus();
              }};
  StatusOr<std::unique_ptr<Node>> node = Node::Open(node_options(i), env);
  Must(node.status());
  nodes_.push_back(*std::move(node));
  fronts_.push_back(std::make_unique<Interceptor>());
  fronts_.back()->target = nodes_.back().get();
  transport_->Attach(NodeAddress(i), *fronts_.back(), loop);
}

StatusOr<IngestSummary> IngestRig::Run(Source& source, IngestOptions options, int threads) {
  if (options.collection.empty()) options.collection = "c";
  options.threads = options_.threaded ? threads : -1;
  recorder_.~Recorder();
  new (&recorder_) Recorder;
  progress_ = std::make_unique<IngestProgress>();
  return Ingest(*vault_, *engine_, source, options, recorder_, progress_.get());
}

StatusOr<Vault::OpenedObject> IngestRig::Opened(const std::string& name,
                                                const std::string& collection) {
  ASSIGN_OR_RETURN(ObjectInfo info, vault_->Lookup(collection, name));
  return vault_->OpenObject(std::move(info));
}

std::string IngestRig::Read(const std::string& name, const std::string& collection) {
  StatusOr<Vault::OpenedObject> object = Opened(name, collection);
  // A simulated network may lose the question.
  for (int i = 0; i < 20 && absl::IsUnavailable(object.status()); ++i) {
    object = Opened(name, collection);
  }
  if (!object.ok()) return object.status().ToString();
  std::string content;
  const Status read = ReadObject(*vault_, *object, 0, object->sealed.size, [&](Bytes bytes) {
    content += AsView(bytes);
    return absl::OkStatus();
  });
  return read.ok() ? content : read.ToString();
}

StatusOr<RpcMessage> IngestRig::Ask(uint32_t node, RpcMessage request) {
  return CallAndWait(*transport_, NodeAddress(node), std::move(request));
}

std::vector<proto::RecordAnswer> IngestRig::Stat(const RecordId& id) {
  std::vector<proto::RecordAnswer> answers;
  for (uint32_t node : ActingSet(map_, id)) {
    proto::NodeStatRequest request;
    request.set_ids(ToString(id.bytes()));
    StatusOr<RpcMessage> reply = Ask(node, MakeMessage(rpc::kNodeStat, request));
    EXPECT_TRUE(reply.ok()) << reply.status();
    answers.push_back(ParseHead<proto::NodeStatReply>(*reply)->answers(0));
  }
  return answers;
}

std::map<std::string, std::string> IngestRig::Files() {
  std::map<std::string, std::string> files;
  std::vector<std::string> dirs = {""};
  for (uint32_t i = 0; i < options_.nodes; ++i) {
    const std::string dir = "/node-" + std::to_string(i);
    for (const std::string& path : {dir, dir + "/segments"}) {
      StatusOr<std::vector<std::string>> names = sim_fs_->List(path);
      if (!names.ok()) continue;
      for (const std::string& name : *names) {
        StatusOr<Buffer> content = ReadFile(*sim_fs_, path + "/" + name);
        if (content.ok()) files[path + "/" + name] = ToString(*content);
      }
    }
  }
  return files;
}

std::string NoiseBytes(uint64_t seed, size_t size) {
  SimRng rng(seed * 2654435761 + 12345);
  std::string bytes(size, '\0');
  rng.Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
  return bytes;
}

std::string TextBytes(uint64_t seed, size_t size) {
  std::string text;
  for (uint64_t line = 0; text.size() < size; ++line) {
    text += "exhibit " + std::to_string(seed) + " line " + std::to_string(line) +
            " of what the witness said\n";
  }
  text.resize(size);
  return text;
}

}  // namespace holdfast::testing

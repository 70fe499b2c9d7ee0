#include "tests/sim/request_fuzz.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <fstream>

#include "absl/strings/escaping.h"
#include "common/base/coding.h"
#include "common/rpc/addresses.h"
#include "common/rpc/methods.h"
#include "common/rpc/zmq/wire.h"

namespace holdfast::sim {
namespace {

constexpr uint8_t kRaw = 0x80;
// A vault takes in what it is sent; now and then there is a new one.
constexpr size_t kRunsOfOne = 4000;

struct Parts {
  uint8_t to = 0;
  Buffer envelope;
  Bytes head, body;
};

Bytes TakeUpTo(Reader& reader, size_t size) {
  return reader.Raw(std::min(size, reader.rest().size()));
}

Parts Divide(Bytes input) {
  Parts parts;
  Reader reader(input);
  const uint8_t first = reader.U8();
  parts.to = first & 3;
  if (first & kRaw) {
    const Bytes envelope = TakeUpTo(reader, reader.U16());
    parts.envelope.assign(envelope.begin(), envelope.end());
    parts.head = TakeUpTo(reader, reader.U16());
    parts.body = reader.rest();
    return parts;
  }
  Envelope envelope;
  envelope.method = reader.U8();
  envelope.id = 1;
  envelope.timeout_millis = 30'000;
  envelope.payload_sizes.resize(reader.U8() & 7);
  for (uint32_t& size : envelope.payload_sizes) size = reader.U16();
  parts.head = TakeUpTo(reader, reader.U16());
  const Bytes rest = reader.rest();
  size_t used = 0;
  for (uint32_t& size : envelope.payload_sizes) {
    size = static_cast<uint32_t>(std::min<size_t>(size, rest.size() - used));
    used += size;
  }
  parts.body = rest.first(used);
  parts.envelope = EncodeEnvelope(envelope);
  return parts;
}

// Messages for protobuf's reflection, by method.
const std::vector<std::pair<uint16_t, const char*>>& Requests() {
  static const std::vector<std::pair<uint16_t, const char*>> all = {
      {rpc::kNodePin, "NodePin"},
      {rpc::kNodePut, "NodePut"},
      {rpc::kNodeGet, "NodeGet"},
      {rpc::kNodeQuarantine, "NodeQuarantine"},
      {rpc::kNodeStatus, "NodeStatus"},
      {rpc::kNodeCheckSegment, "NodeCheckSegment"},
      {rpc::kNodeListCommits, "NodeListCommits"},
      {rpc::kNodeStat, "NodeStat"},
      {rpc::kNodeConfigure, "NodeConfigure"},
      {rpc::kNodeDigests, "NodeDigests"},
      {rpc::kNodeListGroup, "NodeListGroup"},
      {rpc::kNodePull, "NodePull"},
      {rpc::kNodeGcBegin, "NodeGcBegin"},
      {rpc::kNodeListRecords, "NodeListRecords"},
      {rpc::kNodeTrash, "NodeTrash"},
      {rpc::kNodeCompact, "NodeCompact"},
      {rpc::kNodeProbe, "NodeProbe"},
      {rpc::kOpenSession, "OpenSession"},
      {rpc::kCommit, "Commit"},
      {rpc::kPutPart, "PutPart"},
      {rpc::kCloseSession, "CloseSession"},
      {rpc::kGetMap, "GetMap"},
      {rpc::kLookup, "Lookup"},
      {rpc::kList, "List"},
      {rpc::kListCollections, "ListCollections"},
      {rpc::kGetPart, "GetPart"},
      {rpc::kGetSignature, "GetSignature"},
      {rpc::kGetSealingKey, "GetSealingKey"},
      {rpc::kVaultStatus, "VaultStatus"},
      {rpc::kCheckCatalogue, "CheckCatalogue"},
      {rpc::kFindSame, "FindSame"},
      {rpc::kAddNode, "AddNode"},
      {rpc::kSetPrincipal, "SetPrincipal"},
      {rpc::kListPrincipals, "ListPrincipals"},
      {rpc::kSetNodeState, "SetNodeState"},
      {rpc::kBackupPage, "BackupPage"},
      {rpc::kRemove, "Remove"},
      {rpc::kGcStart, "GcStart"},
      {rpc::kGcStatus, "GcStatus"},
      {rpc::kGcStop, "GcStop"},
      {rpc::kFindContent, "FindContent"},
  };
  return all;
}

using google::protobuf::FieldDescriptor;

// Ids of 16 or 32 bytes, small numbers.
void Fill(google::protobuf::Message& message, SimRng& rng) {
  const auto& reflection = *message.GetReflection();
  const auto& descriptor = *message.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    const std::string bytes(rng.Below(2) ? 16 : 32, static_cast<char>(rng.Below(256)));
    const auto number = static_cast<uint32_t>(rng.Below(5));
    const bool many = field->is_repeated();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Fill(many ? *reflection.AddMessage(&message, field)
                  : *reflection.MutableMessage(&message, field),
             rng);
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        many ? reflection.AddString(&message, field, bytes)
             : reflection.SetString(&message, field, bytes);
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        many ? reflection.AddUInt64(&message, field, number)
             : reflection.SetUInt64(&message, field, number);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        many ? reflection.AddUInt32(&message, field, number)
             : reflection.SetUInt32(&message, field, number);
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        many ? reflection.AddInt64(&message, field, number)
             : reflection.SetInt64(&message, field, number);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        if (!many) reflection.SetBool(&message, field, number % 2 != 0);
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        if (!many) reflection.SetDouble(&message, field, number);
        break;
      default:
        break;  // Enumerations stay at nothing.
    }
  }
}

std::unique_ptr<google::protobuf::Message> NewRequest(const std::string& name) {
  const auto* descriptor =
      google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName("holdfast.proto." +
                                                                                name + "Request");
  auto* factory = google::protobuf::MessageFactory::generated_factory();
  return std::unique_ptr<google::protobuf::Message>(factory->GetPrototype(descriptor)->New());
}

}  // namespace

RequestFuzz::RequestFuzz() { Start(); }

void RequestFuzz::Start() {
  runs_ = 0;
  sim_.reset();
  sim_ = std::make_unique<SimVault>(1, SimOptions{.nodes = 3, .replicas = 2, .cluster = true});
  SimRng rng(1);
  AckLog log;
  if (!sim_->Open().ok() || !RunIngest(*sim_, MakeTree(rng), log).ok()) std::abort();
}

bool RequestFuzz::Run(Bytes input) {
  if (++runs_ > kRunsOfOne) Start();
  const Parts parts = Divide(input);
  const StatusOr<Envelope> envelope = DecodeEnvelope(parts.envelope, parts.body.size());
  if (!envelope.ok()) return false;
  if (envelope->kind != Envelope::Kind::kRequest) return true;
  RpcMessage request;
  request.method = envelope->method;
  request.head = ToString(parts.head);
  request.caller.key.value.fill(9);
  const auto body = std::make_shared<const Buffer>(parts.body.begin(), parts.body.end());
  size_t at = 0;
  for (const uint32_t size : envelope->payload_sizes) {
    request.frames.push_back({body, Bytes(*body).subspan(at, size)});
    at += size;
  }
  const std::string to = parts.to == 0 ? kCoordinatorAddress : NodeAddress(parts.to - 1u);
  (void)CallAndWait(sim_->transport(), to, std::move(request));
  return true;
}

void RequestFuzz::Check() {
  const auto vault = CallAndWait(sim_->transport(), kCoordinatorAddress,
                                 MakeMessage(rpc::kVaultStatus, proto::VaultStatusRequest()));
  // A request may have told a node of a newer catalogue: then this coordinator has stopped.
  EXPECT_TRUE(vault.ok() || absl::IsFailedPrecondition(vault.status())) << vault.status();
  for (uint32_t node = 0; node < 3; ++node) {
    const auto status = CallAndWait(sim_->transport(), NodeAddress(node),
                                    MakeMessage(rpc::kNodeStatus, proto::NodeStatusRequest()));
    EXPECT_TRUE(status.ok()) << status.status();
  }
}

std::vector<std::string> FirstInputs() {
  std::vector<std::string> inputs;
  for (const auto& [method, name] : Requests()) {
    SimRng rng(method);
    for (int variant = 0; variant < 4; ++variant) {
      const auto request = NewRequest(name);
      if (variant > 0) Fill(*request, rng);
      std::string head;
      request->SerializeToString(&head);
      Buffer input;
      Writer writer(input);
      writer.U8(method < rpc::kOpenSession ? 1 : 0);
      writer.U8(static_cast<uint8_t>(method));
      writer.U8(1);
      writer.U16(100);
      writer.U16(static_cast<uint16_t>(head.size()));
      writer.Raw(AsBytes(head));
      writer.Raw(Buffer(100, static_cast<uint8_t>(variant)));
      inputs.push_back(ToString(input));
    }
  }
  return inputs;
}

std::vector<std::string> ReadCorpus(const std::string& path) {
  std::vector<std::string> inputs;
  std::ifstream file(path);
  for (std::string line, input; std::getline(file, line);) {
    if (absl::Base64Unescape(line, &input)) inputs.push_back(input);
  }
  return inputs;
}

}  // namespace holdfast::sim

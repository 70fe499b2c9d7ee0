#include "tests/sim/reply_fuzz.h"

#include <set>

#include "client/reader.h"
#include "client/verify.h"
#include "common/base/coding.h"
#include "common/rpc/addresses.h"
#include "common/rpc/methods.h"

namespace holdfast::sim {
namespace {

// Lies that are believed add up, and what one did is to be found again.
constexpr uint64_t kLiesToOne = 100;
constexpr uint8_t kDeeds = 7;
constexpr int kAsksAgain = 2;

Bytes TakePart(Reader& reader, size_t size) {
  return reader.Raw(std::min(size, reader.rest().size()));
}

void Replace(Reader& reader, RpcMessage& message) {
  message.head = ToString(TakePart(reader, reader.U16()));
  message.frames.clear();
  while (reader.ok() && !reader.rest().empty() && message.frames.size() < 64) {
    const Bytes frame = TakePart(reader, reader.U16());
    message.frames.push_back(SharedBytes::Own(Buffer(frame.begin(), frame.end())));
  }
}

void Patch(Reader& reader, MutableBytes bytes) {
  while (reader.rest().size() >= 3 && !bytes.empty()) {
    const size_t at = reader.U16() % bytes.size();
    bytes[at] = reader.U8();
  }
}

void PatchHead(Reader& reader, std::string& head) {
  Patch(reader, {reinterpret_cast<uint8_t*>(head.data()), head.size()});
}

void PatchFrame(Reader& reader, RpcMessage& message) {
  if (message.frames.empty()) return;
  const Bytes view = message.frames[0].view;
  Buffer frame(view.begin(), view.end());
  Patch(reader, frame);
  message.frames[0] = SharedBytes::Own(std::move(frame));
}

Tree SmallTree() {
  SimRng rng(1);
  Tree tree = {{"empty", ""}, {"dir/small", "content"}};
  for (const size_t size : {3'000u, 300'000u}) {
    tree["dir/" + std::to_string(size)] = RandomContent(rng, size);
  }
  return tree;
}

}  // namespace

void ReplyFuzz::Start() {
  runs_ = 0;
  broken_ = false;
  sim_.reset();
  SimOptions options{.nodes = 3, .replicas = 2, .cluster = true};
  options.on_reply = [this](uint16_t method, StatusOr<RpcMessage>& reply) {
    Change(method, reply);
  };
  input_.clear();
  sim_ = std::make_unique<SimVault>(1, options);
  tree_ = SmallTree();
  AckLog log;
  if (!sim_->Open().ok() || !RunIngest(*sim_, tree_, log).ok()) std::abort();
}

void ReplyFuzz::Change(uint16_t method, StatusOr<RpcMessage>& reply) {
  if (record_ && reply.ok()) record_(method, *reply);
  if (input_.size() < 4) return;
  Reader reader(Bytes(input_).subspan(1));
  const bool chosen = replies_++ == reader.U16();
  if (chosen) {
    changed_ = method;
    again_ = kAsksAgain;
  } else if (method != changed_ || again_-- <= 0) {
    return;
  }
  const uint8_t how = reader.U8() % 4;
  if (how == 1) reply = Status(static_cast<absl::StatusCode>(1 + reader.U8() % 16), "a lie");
  if (how == 1 || !reply.ok()) return;
  if (how == 0) Replace(reader, *reply);
  if (how == 2) PatchHead(reader, reply->head);
  if (how == 3) PatchFrame(reader, *reply);
}

void ReplyFuzz::Run(Bytes input) {
  if (input.empty()) return;
  if (sim_ == nullptr || broken_ || ++runs_ > kLiesToOne) Start();
  input_.assign(input.begin(), input.end());
  replies_ = 0;
  changed_ = 0;
  again_ = 0;
  Do(input[0] % kDeeds);
  input_.clear();
}

void ReplyFuzz::Do(uint8_t what) {
  switch (what) {
    case 0:
      return Read();
    case 1:
      return Ingest();
    case 2:
      return Remove();
    case 3:
      return Check();
    case 4:
      return Collect();
    case 5:
      return Repair();
    default:
      return Restart();
  }
}

void ReplyFuzz::Read() {
  Vault& vault = sim_->vault();
  (void)vault.Map();
  (void)vault.ListCollections();
  (void)vault.Lookup("case", "dir/small");
  StatusOr<Vault::Page> page = vault.List("case", {.limit = 100}, "");
  if (!page.ok()) return;
  for (ObjectInfo& info : page->objects) {
    const auto opened = vault.OpenObject(std::move(info));
    if (!opened.ok()) continue;
    std::string content;
    const Status read =
        ReadObject(vault, *opened, 0, opened->sealed.size, [&](Bytes bytes) -> Status {
          content.append(AsView(bytes));
          return absl::OkStatus();
        });
    const auto stored = tree_.find(opened->info.name);
    if (read.ok() && (stored == tree_.end() || stored->second != content)) {
      std::fprintf(stderr, "%s was read as something else\n", opened->info.name.c_str());
      std::abort();
    }
  }
}

void ReplyFuzz::Ingest() {
  // A file that is there, one whose content is, a new one.
  const std::string number = std::to_string(runs_);
  Tree more = {{"dir/small", "content"},
               {"copy/" + number, tree_.begin()->second},
               {"new/" + number, "new " + number}};
  AckLog log;
  (void)RunIngest(*sim_, more, log);
  tree_.merge(more);
}

void ReplyFuzz::Remove() {
  Vault& vault = sim_->vault();
  (void)vault.Remove("case", "dir/3000", {});
  (void)vault.ListRemoved("case", "", "");
  (void)vault.Remove("case", "dir/3000", {.undo = true});
}

void ReplyFuzz::Collect() {
  // Of its own each time, so that there is something to put into the trash and let go of.
  AckLog log;
  SimRng rng(1'000 + runs_);
  (void)RunIngest(*sim_, {{"garbage", RandomContent(rng, 100'000)}}, log);
  (void)sim_->vault().Remove("case", "garbage", {.now = true});
  if (sim_->GcStart({}).ok()) sim_->RunFor(3 * kSecond);
  (void)sim_->GcStatus();
}

void ReplyFuzz::Check() {
  VerifyOptions options;
  options.threads = -1;
  VerifyObserver observer;
  (void)Verify(sim_->vault(), options, observer);
  proto::CheckCatalogueRequest request;
  for (int steps = 0; steps < 100; ++steps) {
    const auto reply = CallAndWait(sim_->transport(), kCoordinatorAddress,
                                   MakeMessage(rpc::kCheckCatalogue, request));
    const auto head = reply.ok() ? ParseHead<proto::CheckCatalogueReply>(*reply) : reply.status();
    if (!head.ok() || head->cursor().empty()) return;
    request.set_cursor(head->cursor());
  }
}

void ReplyFuzz::Repair() {
  // Nothing is to be repaired but what a lie about a group says.
  sim_->RunFor(2 * kSecond);
}

void ReplyFuzz::Restart() {
  sim_->StopCoordinator();
  broken_ = !sim_->StartCoordinator().ok();
  if (!broken_) sim_->RunFor(kSecond);
}

std::vector<Buffer> ReplyFuzz::FirstInputs() {
  std::vector<Buffer> inputs;
  Start();
  for (uint8_t what = 0; what < kDeeds; ++what) {
    std::set<uint16_t> seen;
    uint16_t number = 0;
    record_ = [&](uint16_t method, const RpcMessage& message) {
      const uint16_t n = number++;
      answered_.insert(method);
      if (!seen.insert(method).second) return;
      Buffer& input = inputs.emplace_back();
      Writer writer(input);
      writer.U8(what);
      writer.U16(n);
      writer.U8(0);
      writer.U16(static_cast<uint16_t>(message.head.size()));
      writer.Raw(AsBytes(message.head));
      for (const SharedBytes& frame : message.frames) {
        const Bytes shown = frame.view.first(std::min<size_t>(frame.view.size(), UINT16_MAX));
        writer.U16(static_cast<uint16_t>(shown.size()));
        writer.Raw(shown);
      }
      // An error for one, another byte for the next.
      Buffer& other = inputs.emplace_back();
      Writer of_other(other);
      of_other.U8(what);
      of_other.U16(n);
      of_other.U8(static_cast<uint8_t>(1 + inputs.size() / 2 % 3));
      of_other.U16(static_cast<uint16_t>(3 + n));
      of_other.U8(0xff);
    };
    Do(what);
    record_ = nullptr;
  }
  Start();
  return inputs;
}

}  // namespace holdfast::sim

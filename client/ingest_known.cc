#include "client/ingest_known.h"

#include <algorithm>

#include "common/rpc/methods.h"

namespace holdfast {

bool KnownContents::WorthAsking() {
  if (other_ > kFree + same_) return false;
  if (passed_ >= to_pass_) return true;
  ++passed_;
  return false;
}

void KnownContents::TellAnswer(bool known) {
  passed_ = 0;
  to_pass_ = known ? 0 : std::min(2 * to_pass_ + 1, kMostPassed);
}

std::vector<std::optional<KnownContent>> KnownContents::Find(
    const std::vector<const SourceEntry*>& entries) {
  std::vector<std::optional<KnownContent>> found(entries.size());
  if (entries.empty() || !WorthAsking()) return found;
  proto::FindContentRequest request;
  request.set_collection(ctx_.options.collection);
  for (const SourceEntry* entry : entries) request.add_names(entry->name);
  const StatusOr<RpcMessage> reply =
      CallAndWait(ctx_.vault.transport(), kCoordinatorAddress,
                  MakeMessage(rpc::kFindContent, request), kRequestNanos);
  const auto head = ReplyHead<proto::FindContentReply>(reply);
  if (!head.ok() || static_cast<size_t>(head->contents_size()) != entries.size()) return found;
  for (size_t i = 0; i < entries.size(); ++i) {
    const proto::KnownContent& content = head->contents(static_cast<int>(i));
    const bool usable = content.version().size() == VersionId::kSize &&
                        content.chunks().size() == sizeof(Hash256) &&
                        content.type() == static_cast<uint32_t>(entries[i]->type);
    if (!usable) continue;
    KnownContent& known = found[i].emplace();
    known.version = VersionId::FromBytes(AsBytes(content.version()));
    std::ranges::copy(AsBytes(content.chunks()), known.chunks.begin());
  }
  TellAnswer(std::ranges::any_of(found, [](const auto& known) { return known.has_value(); }));
  return found;
}

}  // namespace holdfast

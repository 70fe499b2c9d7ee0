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

StatusOr<proto::FindContentReply> KnownContents::Ask(const proto::FindContentRequest& request) {
  return ReplyHead<proto::FindContentReply>(CallAndWait(ctx_.vault.transport(), kCoordinatorAddress,
                                                        MakeMessage(rpc::kFindContent, request),
                                                        kRequestNanos));
}

std::optional<uint64_t> KnownContents::MapVersion() {
  const auto reply = Ask({});
  return reply.ok() ? std::optional(reply->map_version()) : std::nullopt;
}

std::vector<std::optional<KnownContent>> KnownContents::Find(
    const std::vector<const SourceEntry*>& entries) {
  std::vector<std::optional<KnownContent>> found(entries.size());
  if (entries.empty() || !WorthAsking()) return found;
  proto::FindContentRequest request;
  request.set_collection(ctx_.options.collection);
  for (const SourceEntry* entry : entries) request.add_names(entry->name);
  const auto reply = Ask(request);
  const bool answered = reply.ok() && static_cast<size_t>(reply->contents_size()) == entries.size();
  for (size_t i = 0; answered && i < entries.size(); ++i) {
    const proto::KnownContent& content = reply->contents(static_cast<int>(i));
    const bool usable = content.version().size() == VersionId::kSize &&
                        content.chunks().size() == sizeof(Hash256) &&
                        content.tag_sha256().size() == ObjectTag::kSize &&
                        content.type() == static_cast<uint32_t>(entries[i]->type);
    if (!usable) continue;
    KnownContent& known = found[i].emplace();
    known.version = VersionId::FromBytes(AsBytes(content.version()));
    std::ranges::copy(AsBytes(content.chunks()), known.chunks.begin());
    known.tag_sha256 = ObjectTag::FromBytes(AsBytes(content.tag_sha256()));
  }
  TellAnswer(std::ranges::any_of(found, [](const auto& known) { return known.has_value(); }));
  return found;
}

}  // namespace holdfast

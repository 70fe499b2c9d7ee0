#include "client/ingest.h"

#include <absl/strings/str_cat.h>

#include <thread>
#include <utility>

#include "client/ingest_chunks.h"
#include "client/ingest_commit.h"
#include "client/ingest_context.h"
#include "client/ingest_feed.h"
#include "client/ingest_known.h"
#include "client/ingest_manifest.h"
#include "client/ingest_worker.h"
#include "client/slab_pool.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

Status CloseSession(IngestContext& ctx, bool abort) {
  proto::CloseSessionRequest request;
  request.set_session(ToString(ctx.session.bytes()));
  request.set_abort(abort);
  return ctx.CallAndWait(kCoordinatorAddress, MakeMessage(rpc::kCloseSession, request)).status();
}

void RunWorkers(const IngestWorker::Parts& parts, const SlabPlan& plan, size_t workers) {
  SlabPool pool(plan.slab_bytes, workers);
  parts.ctx.engine.Register(pool.all());
  std::vector<std::unique_ptr<IngestWorker>> all;
  for (size_t i = 0; i < workers; ++i) {
    all.push_back(std::make_unique<IngestWorker>(parts, plan, workers, pool.slab(i)));
  }
  if (parts.ctx.inline_mode()) {
    all[0]->Run();
  } else {
    std::vector<std::thread> running;
    running.reserve(all.size());
    for (auto& worker : all) running.emplace_back([&worker] { worker->Run(); });
    for (std::thread& thread : running) thread.join();
  }
  parts.ctx.engine.Unregister(pool.all());
}

// Waits until every chunk that was sent is decided.
void Drain(IngestContext& ctx, ChunkStore& store) {
  Sealer sealer(ctx.vault.domain_keys());
  for (bool idle = false; !idle;) {
    {
      MonitorLock lock(*ctx.monitor);
      ctx.Await([&] { return store.idle() || store.has_disputes(); });
      idle = store.idle();
    }
    store.ResolveDisputes(sealer);
  }
}

void RunPipeline(IngestContext& ctx, Source& source, IngestObserver& observer) {
  const kernels::CutParams cut = ctx.vault.engine_options().cut;
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  const size_t at_once = ctx.options.threads == 0 ? cores : std::max(ctx.options.threads, 1);
  // A device wants more at a time than a core.
  const size_t good = ctx.engine.good_batch_bytes();
  // While one worker waits for a node or a device, another one has its core. Nodes in this process
  // answer soon, and are who has the core meanwhile.
  const bool waits = good > 0 || ctx.nodes_elsewhere();
  const size_t wanted = waits && !ctx.inline_mode() ? 2 * at_once : at_once;
  const size_t slabs_bytes = std::max(ctx.options.slabs_bytes, good * std::min<size_t>(wanted, 16));
  const size_t each = std::max(good, std::min(ctx.options.slab_bytes, slabs_bytes / wanted));
  const SlabPlan plan(each, cut.max_size());
  const size_t threads = std::clamp<size_t>(slabs_bytes / plan.slab_bytes, 1, wanted);
  ManifestMaker maker(ctx);
  ChunkStore store(ctx);
  Committer committer(ctx, store, maker, observer);
  KnownContents known(ctx);
  {
    SourceFeed feed(source, plan.long_bytes, ctx.inline_mode(), ctx.progress);
    RunWorkers({ctx, source, feed, store, maker, committer, known}, plan, threads);
  }
  Drain(ctx, store);
  committer.Finish();
  MonitorLock lock(*ctx.monitor);
  ctx.Await([&] { return ctx.calls == 0; });
}

}  // namespace

StatusOr<IngestSummary> Ingest(Vault& vault, kernels::Engine& engine, Source& source,
                               const IngestOptions& options_in, IngestObserver& observer,
                               IngestProgress* progress) {
  const int64_t start = vault.clock().MonotonicNanos();
  IngestOptions options = options_in;
  options.digests |= kernels::kSha256;
  options.commit_objects = std::max<size_t>(options.commit_objects, 1);
  if (options.collection.empty()) return absl::InvalidArgumentError("a collection needs a name");
  if (!vault.key().can_ingest()) {
    return absl::PermissionDeniedError("this key cannot ingest; use one that was made for it");
  }
  IngestProgress unwatched;
  IngestContext ctx(vault, engine, options, progress != nullptr ? *progress : unwatched);
  RETURN_IF_ERROR(ctx.OpenSession());
  RunPipeline(ctx, source, observer);
  const Status closed = CloseSession(ctx, ctx.failed());
  if (ctx.failed()) {
    const IngestSummary& s = ctx.summary;
    return Annotate(
        ctx.vault_error,
        absl::StrCat("stopped after ", s.files + s.directories + s.symlinks, " objects"));
  }
  RETURN_IF_ERROR(closed);
  ctx.summary.nanos = vault.clock().MonotonicNanos() - start;
  return ctx.summary;
}

}  // namespace holdfast

#include "tests/sim/sim_ingest.h"

#include <cstdlib>

#include "client/reader.h"
#include "tests/client/memory_source.h"

namespace holdfast::sim {

std::string RandomContent(SimRng& rng, size_t size) {
  std::string content(size, '\0');
  rng.Fill({reinterpret_cast<uint8_t*>(content.data()), size});
  return content;
}

Tree MakeTree(SimRng& rng) {
  Tree tree;
  size_t count = 5 + rng.Below(25);
  std::vector<std::string> contents;
  for (size_t i = 0; i < count; ++i) {
    std::string content;
    uint64_t kind = rng.Below(10);
    if (kind < 3 && !contents.empty()) {
      content = contents[rng.Below(contents.size())];
    } else if (kind < 5 && !contents.empty()) {
      content = RandomContent(rng, 64) + contents[rng.Below(contents.size())];
    } else if (kind < 8) {
      content = RandomContent(rng, rng.Below(20'000));
    } else {
      content = RandomContent(rng, rng.Below(600'000));
    }
    contents.push_back(content);
    tree["dir/file-" + std::to_string(i)] = content;
  }
  return tree;
}

StatusOr<IngestSummary> RunIngest(SimVault& sim, const Tree& tree, AckLog& log) {
  auto engine = kernels::MakePortableEngine(sim.vault().engine_options());
  MemorySource source;
  for (const auto& [name, content] : tree) source.AddFile(name, content);
  IngestOptions options;
  options.collection = "case";
  options.threads = -1;
  options.slab_bytes = 2u << 20;
  options.commit_objects = 1 + sim.rng().Below(8);
  return Ingest(sim.vault(), *engine, source, options, log);
}

namespace {

Status CheckObject(SimVault& sim, const ObjectInfo& info, const std::string& expected) {
  ASSIGN_OR_RETURN(auto opened, sim.vault().OpenObject(info));
  std::string got;
  RETURN_IF_ERROR(ReadObject(sim.vault(), opened, 0, UINT64_MAX, [&](Bytes data) {
    got += AsView(data);
    return absl::OkStatus();
  }));
  if (got != expected) return absl::DataLossError("content differs");
  return absl::OkStatus();
}

}  // namespace

void CheckVault(SimVault& sim, const Tree& tree, const AckLog& log) {
  auto page = sim.vault().List("case", {.limit = 10'000}, "");
  if (!page.ok()) {
    ASSERT_TRUE(log.acked.empty()) << Message(page.status());
    ASSERT_TRUE(absl::IsNotFound(page.status())) << Message(page.status());
    return;
  }
  std::map<std::string, bool> listed;
  for (const ObjectInfo& info : page->objects) {
    listed[info.name] = true;
    auto file = tree.find(info.name);
    ASSERT_NE(file, tree.end()) << info.name;
    Status status = CheckObject(sim, info, file->second);
    ASSERT_TRUE(status.ok()) << info.name << ": " << Message(status);
  }
  for (const auto& [name, version] : log.acked)
    ASSERT_TRUE(listed[name]) << name << " was acknowledged";
}

void AckLog::OnObject(const std::string& name, const VersionId& version, ObjectState) {
  acked[name] = version;
  if (on_object) on_object();
}

void AckLog::OnError(const std::string& name, const Status& status) {
  errors[name] = Message(status);
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

}  // namespace holdfast::sim

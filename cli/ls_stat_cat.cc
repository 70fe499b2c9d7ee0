// ls, stat, cat: finding objects and reading one.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>

#include "cli/commands.h"
#include "cli/output.h"
#include "client/reader.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

std::string Hex(const std::optional<std::array<uint8_t, 20>>& digest) {
  return digest ? ToHex(*digest) : "-";
}
std::string Hex(const std::optional<std::array<uint8_t, 16>>& digest) {
  return digest ? ToHex(*digest) : "-";
}

int ListCollections(OpenedVault& vault, const Globals& globals, const LsArgs& args) {
  auto collections = vault.vault().ListCollections();
  if (!collections.ok()) return Fail(collections.status());
  for (const auto& entry : *collections) {
    if (globals.json) {
      Json line;
      line["type"] = "collection";
      SetName(line, "name", entry.name());
      line["created"] = FormatTime(entry.created_nanos() / 1'000'000'000,
                                   static_cast<uint32_t>(entry.created_nanos() % 1'000'000'000));
      PrintJson(line);
    } else {
      std::fwrite(entry.name().data(), 1, entry.name().size(), stdout);
      std::putchar(args.nul ? '\0' : '\n');
    }
  }
  return kExitOk;
}

void DescribeContent(Json& json, const Vault::OpenedObject& object) {
  json["size"] = object.sealed.size;
  if (object.info.manifest.type != ObjectType::kDirectory) {
    json["sha256"] = ToHex(object.sealed.sha256);
    if (object.sealed.sha1) json["sha1"] = ToHex(*object.sealed.sha1);
    if (object.sealed.md5) json["md5"] = ToHex(*object.sealed.md5);
  }
  json["versions"] = object.info.row.version_number;
  const Attributes& a = object.sealed.attributes;
  json["mtime"] = FormatTime(a.mtime_seconds, a.mtime_nanos);
}

Status PrintEntry(OpenedVault& vault, const ObjectInfo& info, const Globals& globals,
                  const LsArgs& args) {
  std::optional<Vault::OpenedObject> opened;
  if (args.long_format) {
    ASSIGN_OR_RETURN(opened, vault.vault().OpenObject(info));
  }
  if (globals.json) {
    Json line;
    line["type"] = "object";
    SetName(line, "name", info.name);
    line["kind"] = KindName(info.manifest.type);
    if (opened) DescribeContent(line, *opened);
    PrintJson(line);
    return absl::OkStatus();
  }
  std::string text;
  if (opened) {
    const SealedManifest& s = opened->sealed;
    char columns[64];
    std::snprintf(columns, sizeof columns, "%-9s %14llu  v%-3llu ", KindName(info.manifest.type),
                  static_cast<unsigned long long>(s.size),
                  static_cast<unsigned long long>(info.row.version_number));
    text = std::string(columns) +
           FormatTime(s.attributes.mtime_seconds, s.attributes.mtime_nanos).substr(0, 19) + "Z  " +
           (info.manifest.type == ObjectType::kDirectory
                ? "-  -  -  "
                : ToHex(s.sha256) + "  " + Hex(s.sha1) + "  " + Hex(s.md5) + "  ");
  }
  // A name may hold what a terminal obeys.
  text += isatty(STDOUT_FILENO) != 0 ? Printable(info.name) : info.name;
  if (info.manifest.type == ObjectType::kDirectory) text += '/';
  text += args.nul ? '\0' : '\n';
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

int ListObjects(OpenedVault& vault, const Globals& globals, const LsArgs& args) {
  ObjectPath path = SplitPath(args.path);
  Vault::ListOptions options;
  options.prefix = path.name;
  std::string after;
  for (;;) {
    auto page = vault.vault().List(path.collection, options, after);
    if (!page.ok()) return Fail(page.status());
    if (after.empty() && page->objects.empty() && !path.name.empty()) {
      return Fail("nothing under " + Printable(args.path), kExitNotFound);
    }
    for (const ObjectInfo& info : page->objects) {
      Status status = PrintEntry(vault, info, globals, args);
      if (!status.ok()) return Fail(status);
    }
    if (!page->more || page->objects.empty()) return kExitOk;
    after = page->objects.back().name;
  }
}

std::string FormatNanos(int64_t nanos) {
  return FormatTime(nanos / kSecond, static_cast<uint32_t>(nanos % kSecond));
}

void PrintRemoved(const ObjectInfo& info, const Globals& globals, const LsArgs& args) {
  if (globals.json) {
    Json line;
    line["type"] = "removed";
    SetName(line, "collection", info.collection);
    SetName(line, "name", info.name);
    line["kind"] = KindName(info.manifest.type);
    line["removed"] = FormatNanos(info.row.removed_nanos);
    line["number"] = info.row.version_number;
    line["version"] = info.manifest.version.hex();
    PrintJson(line);
    return;
  }
  const std::string name = info.collection + "/" + info.name;
  std::string text = FormatNanos(info.row.removed_nanos).substr(0, 19) + "Z  v" +
                     std::to_string(info.row.version_number) + "  " + info.manifest.version.hex() +
                     "  " + (isatty(STDOUT_FILENO) != 0 ? Printable(name) : name);
  text += args.nul ? '\0' : '\n';
  std::fwrite(text.data(), 1, text.size(), stdout);
}

int ListRemoved(OpenedVault& vault, const Globals& globals, const LsArgs& args) {
  const ObjectPath path = SplitPath(args.path);
  std::string from;
  do {
    auto page = vault.vault().ListRemoved(path.collection, path.name, from);
    if (!page.ok()) return Fail(page.status());
    for (const ObjectInfo& info : page->objects) PrintRemoved(info, globals, args);
    from = page->next;
  } while (!from.empty());
  return kExitOk;
}

StatusOr<Vault::OpenedObject> OpenByPath(OpenedVault& vault, const std::string& path) {
  ObjectPath split = SplitPath(path);
  if (split.name.empty()) {
    return absl::InvalidArgumentError(Printable(path) + ": give COLLECTION/NAME");
  }
  ASSIGN_OR_RETURN(ObjectInfo info, vault.vault().Lookup(split.collection, split.name));
  return vault.vault().OpenObject(std::move(info));
}

Json StatJson(const Vault::OpenedObject& object, const ManifestPart& chunks) {
  const ClearManifest& m = object.info.manifest;
  const Attributes& a = object.sealed.attributes;
  Json json;
  json["type"] = "object";
  SetName(json, "collection", object.info.collection);
  SetName(json, "name", object.info.name);
  json["kind"] = KindName(m.type);
  DescribeContent(json, object);
  json["version"] = m.version.hex();
  json["stored"] = FormatTime(object.info.row.commit_nanos / 1'000'000'000,
                              static_cast<uint32_t>(object.info.row.commit_nanos % 1'000'000'000));
  char mode[8];
  std::snprintf(mode, sizeof mode, "%04o", a.mode);
  json["mode"] = mode;
  json["uid"] = a.uid;
  json["gid"] = a.gid;
  json["sparse"] = a.sparse;
  if (!object.sealed.link.empty()) SetName(json, "link", object.sealed.link);
  if (!a.xattrs.empty()) {
    json["xattrs"] = Json::array();
    for (const XAttr& x : a.xattrs) {
      Json& xattr = json["xattrs"].emplace_back();
      SetName(xattr, "name", x.name);
      SetName(xattr, "value", x.value);
    }
  }
  json["chunks"] = Json::array();
  for (size_t i = 0; i < chunks.chunks.size(); ++i) {
    json["chunks"].push_back({{"id", chunks.chunks[i].id.hex()},
                              {"length", chunks.sealed_chunks[i].length},
                              {"stored_length", chunks.chunks[i].stored_length}});
  }
  return json;
}

void PrintStat(const Json& json) {
  for (const auto& [key, value] : json.items()) {
    if (key == "type") continue;
    if (key == "chunks") {
      uint64_t stored = 0;
      for (const auto& chunk : value) stored += chunk["stored_length"].get<uint64_t>();
      std::printf("%-11s %zu, %s stored before deduplication\n", "chunks:", value.size(),
                  FormatBytes(stored).c_str());
      continue;
    }
    std::string text = value.is_string() ? Printable(value.get<std::string>()) : value.dump();
    std::printf("%-11s %s\n", (key + ":").c_str(), text.c_str());
  }
}

// "A-B", both inclusive; "A-" to the end.
bool ParseRange(const std::string& text, uint64_t* begin, uint64_t* end) {
  size_t dash = text.find('-');
  if (dash == std::string::npos || dash == 0) return false;
  std::string a = text.substr(0, dash), b = text.substr(dash + 1);
  auto digits = [](const std::string& s) {
    return s.size() <= 18 && s.find_first_not_of("0123456789") == std::string::npos;
  };
  if (!digits(a) || !digits(b)) return false;
  *begin = std::stoull(a);
  *end = b.empty() ? std::numeric_limits<uint64_t>::max() : std::stoull(b) + 1;
  return *begin < *end;
}

}  // namespace

int RunLs(const Globals& globals, const LsArgs& args) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code, /*brief=*/true);
  if (!vault) return exit_code;
  if (args.removed) return ListRemoved(*vault, globals, args);
  return args.path.empty() ? ListCollections(*vault, globals, args)
                           : ListObjects(*vault, globals, args);
}

int RunStat(const Globals& globals, const StatArgs& args) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code, /*brief=*/true);
  if (!vault) return exit_code;
  auto object = OpenByPath(*vault, args.path);
  if (!object.ok()) return Fail(object.status());
  auto chunks = vault->vault().Chunks(*object);
  if (!chunks.ok()) return Fail(chunks.status());
  Json json = StatJson(*object, *chunks);
  if (globals.json) {
    PrintJson(json);
  } else {
    PrintStat(json);
  }
  return kExitOk;
}

int RunCat(const Globals& globals, const CatArgs& args) {
  uint64_t begin = 0, end = std::numeric_limits<uint64_t>::max();
  if (!args.range.empty() && !ParseRange(args.range, &begin, &end)) {
    return Fail("--range " + Printable(args.range) + ": give A-B, the first and last byte to read",
                kExitUsage);
  }
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code, /*brief=*/true);
  if (!vault) return exit_code;
  auto object = OpenByPath(*vault, args.path);
  if (!object.ok()) return Fail(object.status());
  if (object->info.manifest.type == ObjectType::kDirectory) {
    return Fail(Printable(args.path) + " is a directory", kExitUsage);
  }
  Status status = ReadObject(vault->vault(), *object, begin, end, [](Bytes data) -> Status {
    while (!data.empty()) {
      ssize_t n = write(STDOUT_FILENO, data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return absl::UnavailableError(std::string("stdout: ") + std::strerror(errno));
      data = data.subspan(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  });
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace holdfast::cli

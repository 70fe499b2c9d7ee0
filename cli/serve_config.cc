// Reading and writing the daemons' TOML files.
#include <toml++/toml.h>

#include <filesystem>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "cli/serve.h"
#include "common/base/text.h"
#include "common/io/fs.h"

namespace holdfast::cli {
namespace {

// The members of one file; remembers the first that is missing or wrong.
class Config {
 public:
  static StatusOr<Config> Read(const std::string& path) try {
    ASSIGN_OR_RETURN(const Buffer bytes, ReadFile(PosixFs(), path));
    return Config(path, toml::parse(AsView(bytes)));
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat(Printable(path), " line ",
                                                   error.source().begin.line, ": ",
                                                   std::string(error.description())));
  }

  std::string String(const char* name) {
    const auto value = table_[name].value<std::string>();
    if (!value || value->empty()) Wrong(name, "a text");
    return value.value_or("");
  }
  std::string Path(const char* name) {
    const std::filesystem::path value = String(name);
    return (std::filesystem::path(path_).parent_path() / value).string();
  }
  uint32_t NumberOr(const char* name, uint32_t fallback) {
    return table_.contains(name) ? Number(name) : fallback;
  }
  uint32_t Number(const char* name) {
    const auto value = table_[name].value<int64_t>();
    if (!value || *value < 0 || *value > UINT32_MAX) Wrong(name, "a number");
    return static_cast<uint32_t>(value.value_or(0));
  }
  NodeId Id(const char* name) {
    NodeId id;
    if (!FromHex(String(name), id.value)) Wrong(name, "32 hexadecimal digits");
    return id;
  }
  // After all that is known was read: a name that is not known is a mistake.
  Status Done(std::initializer_list<std::string_view> known) {
    for (const auto& [name, value] : table_) {
      if (std::find(known.begin(), known.end(), name.str()) == known.end() && error_.ok()) {
        error_ = absl::InvalidArgumentError(absl::StrCat(
            Printable(path_), ": there is no setting \"", std::string(name.str()), "\""));
      }
    }
    return error_;
  }

 private:
  Config(std::string path, toml::table table) : path_(std::move(path)), table_(std::move(table)) {}
  void Wrong(const char* name, const char* wanted) {
    if (!error_.ok()) return;
    error_ = absl::InvalidArgumentError(
        absl::StrCat(Printable(path_), ": ", name, " must be there and be ", wanted));
  }

  std::string path_;
  toml::table table_;
  Status error_;
};

Status Write(const std::string& path, const toml::table& table, const char* what) {
  std::ostringstream text;
  text << "# " << what << ", for `holdfast` … `serve --config` this file.\n" << table << "\n";
  return WriteFileAtomically(PosixFs(), path, AsBytes(text.str()));
}

}  // namespace

StatusOr<CoordinatorConfig> ReadCoordinatorConfig(const std::string& path) {
  ASSIGN_OR_RETURN(Config config, Config::Read(path));
  CoordinatorConfig c{config.Path("dir"), config.String("listen"), config.Path("key_file")};
  c.out_after_seconds = config.NumberOr("out_after_seconds", c.out_after_seconds);
  RETURN_IF_ERROR(config.Done({"dir", "listen", "key_file", "out_after_seconds"}));
  return c;
}

StatusOr<NodeConfig> ReadNodeConfig(const std::string& path) {
  ASSIGN_OR_RETURN(Config config, Config::Read(path));
  NodeConfig c{config.Path("dir"), config.String("listen"), config.Path("key_file"),
               config.Id("id"), config.Number("number")};
  RETURN_IF_ERROR(config.Done({"dir", "listen", "key_file", "id", "number"}));
  return c;
}

Status WriteConfig(const std::string& path, const CoordinatorConfig& config) {
  return Write(path,
               toml::table{{"dir", config.dir},
                           {"listen", config.listen},
                           {"key_file", config.key_file},
                           {"out_after_seconds", int64_t{config.out_after_seconds}}},
               "The coordinator of a Holdfast cluster");
}

Status WriteConfig(const std::string& path, const NodeConfig& config) {
  return Write(path,
               toml::table{{"dir", config.dir},
                           {"listen", config.listen},
                           {"key_file", config.key_file},
                           {"id", config.id.hex()},
                           {"number", int64_t{config.number}}},
               "A storage node of a Holdfast cluster");
}

}  // namespace holdfast::cli

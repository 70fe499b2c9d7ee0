#include "common/kv/rocks_status.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <initializer_list>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

std::string OneLine(const rocksdb::Status& s) {
  std::string text = s.ToString();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// RocksDB keeps an errno only as text, and calls some of what follows from it corruption.
bool HasError(const std::string& text, std::initializer_list<int> errors) {
  return std::any_of(errors.begin(), errors.end(), [&](int error) {
    char name[128];
    return text.find(strerror_r(error, name, sizeof name)) != std::string::npos;
  });
}

// There is no code for a lock that is held either.
bool LockIsHeld(const std::string& text) {
  return text.find("lock hold by current process") != std::string::npos ||
         text.find("While lock file") != std::string::npos;
}

}  // namespace

Status FromRocks(const rocksdb::Status& s, const std::string& dir) {
  if (s.ok()) return absl::OkStatus();
  std::string text = absl::StrCat(dir, ": ", OneLine(s));
  if (s.IsNoSpace()) return absl::ResourceExhaustedError(text);
  // A file that the database names and that is not there is damage like any other.
  if (s.IsCorruption() || s.IsNotFound() || s.IsPathNotFound()) return absl::DataLossError(text);
  if (s.IsInvalidArgument()) return absl::InternalError(text);
  return absl::UnavailableError(text);
}

Status FromRocksOpen(const rocksdb::Status& s, const std::string& dir) {
  if (s.ok()) return absl::OkStatus();
  std::string text = OneLine(s);
  if (s.IsNoSpace()) return absl::ResourceExhaustedError(absl::StrCat(dir, ": ", text));
  if (s.IsIOError() && LockIsHeld(text)) {
    return absl::FailedPreconditionError(
        absl::StrCat(dir, ": in use by another process; wait until it ends (", text, ")"));
  }
  if (HasError(text, {EACCES, EPERM, EROFS})) {
    return absl::PermissionDeniedError(absl::StrCat(dir, ": ", text));
  }
  if (HasError(text, {EMFILE, ENFILE, ENOMEM})) {
    return absl::UnavailableError(absl::StrCat(dir, ": ", text));
  }
  return absl::DataLossError(absl::StrCat(dir, ": damaged: ", text));
}

}  // namespace holdfast

#include "cli/catalogue_files.h"

namespace holdfast::cli {

StatusOr<std::string> FreeName(Fs& fs, const std::string& path) {
  std::string name = path;
  for (int i = 2;; ++i) {
    ASSIGN_OR_RETURN(bool taken, fs.Exists(name));
    if (!taken) return name;
    name = path + "-" + std::to_string(i);
  }
}

StatusOr<std::string> ReplaceCatalogue(Fs& fs, const std::string& path, const std::string& fresh) {
  std::string kept_as;
  ASSIGN_OR_RETURN(const bool had_one, fs.Exists(path));
  if (had_one) {
    ASSIGN_OR_RETURN(kept_as, FreeName(fs, path + ".damaged"));
    RETURN_IF_ERROR(fs.Rename(path, kept_as));
  }
  RETURN_IF_ERROR(fs.Rename(fresh, path));
  RETURN_IF_ERROR(fs.SyncDir(path.substr(0, path.rfind('/'))));
  return kept_as;
}

}  // namespace holdfast::cli

// Exit codes of the command line, and how a status becomes one.
#pragma once

#include "common/base/status.h"

namespace holdfast::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitUsage = 2,
  kExitSomeSourcesFailed = 3,
  kExitNotFound = 4,
  kExitIntegrity = 5,
  kExitHeld = 6,
  kExitNoVault = 10,
  kExitBusy = 11,
  kExitAccess = 12,
};

inline ExitCode ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kDataLoss:
      return kExitIntegrity;
    case absl::StatusCode::kPermissionDenied:
      return kExitAccess;
    default:
      return kExitFailed;
  }
}

}  // namespace holdfast::cli

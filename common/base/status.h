// How errors travel: absl::Status by value, each code with one meaning here, so that the command
// line can turn it into an exit code (cli/exit_code.h) and callers can react:
//   kDataLoss           stored bytes are wrong or gone (integrity failure)
//   kNotFound           no such object, collection, record or file
//   kPermissionDenied   this key may not do that, or is the wrong key
//   kInvalidArgument    the request itself makes no sense
//   kResourceExhausted  no space left
//   kUnavailable        a disk or peer cannot be reached now; the request may be sent again
//   kAborted            a state check failed (session not open, unknown map); start over
//   kFailedPrecondition the vault is in a state that forbids this
//   kInternal           a bug
// Messages are one line, name the thing, and say the way out.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define HOLDFAST_CONCAT_INNER(a, b) a##b
#define HOLDFAST_CONCAT(a, b) HOLDFAST_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` is not ok.
#define RETURN_IF_ERROR(expr)                      \
  do {                                             \
    ::absl::Status status_macro_ = (expr);         \
    if (!status_macro_.ok()) return status_macro_; \
  } while (0)

// ASSIGN_OR_RETURN(auto x, F()): x from a StatusOr, or returns its status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  HOLDFAST_ASSIGN_OR_RETURN(HOLDFAST_CONCAT(statusor_, __LINE__), lhs, expr)
#define HOLDFAST_ASSIGN_OR_RETURN(var, lhs, expr) \
  auto var = (expr);                              \
  if (!var.ok()) return var.status();             \
  lhs = std::move(var).value()

namespace holdfast {

using absl::Status;
using absl::StatusOr;

// The status with "context: " before its message.
Status Annotate(const Status& status, std::string_view context);
std::string Message(const Status& status);

}  // namespace holdfast

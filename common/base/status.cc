#include "common/base/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace holdfast {

Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  // Abseil is built with a string_view of its own here, hence the spelled-out conversion.
  absl::string_view view(context.data(), context.size());
  Status annotated(status.code(), absl::StrCat(view, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    annotated.SetPayload(type, payload);
  });
  return annotated;
}

std::string Message(const Status& status) {
  return std::string(status.message().data(), status.message().size());
}

}  // namespace holdfast

// What `gc` says of a run: how it gets on, and what it was begun with.
#pragma once

#include <string>

#include "common/proto/holdfast.pb.h"

namespace holdfast::cli {

// "sweeping · 40 % · 12 s left"; without a total, how much is done.
std::string GcProgress(const proto::GcStatusReply& report);
// As one would give them: "--dry-run --undo-window 7d --grace 0".
std::string GcOptions(const proto::GcStartRequest& request);
bool SameGcOptions(const proto::GcStartRequest& a, const proto::GcStartRequest& b);

}  // namespace holdfast::cli

// Pages of a backup of the catalogue, made while it is in use.
#pragma once

#include "coordinator/catalogue.h"
#include "coordinator/coordinator.h"

namespace holdfast {

// The page that `request` asks for, as a reply.
StatusOr<RpcMessage> MakeBackupPage(const CoordinatorOptions& options, Rng& rng,
                                    Catalogue& catalogue, const Head& head,
                                    const proto::BackupPageRequest& request);

// Fills an empty catalogue with the rows of a backup; where the commit log stood when it was begun.
StatusOr<Head> LoadBackup(const CoordinatorOptions& options, Catalogue& catalogue, Bytes file);

}  // namespace holdfast

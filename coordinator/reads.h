// The coordinator's reads: names, versions, signatures, sealing keys. Each answers from the
// catalogue alone. A damaged row ends a listing with kDataLoss; it is never left out.
#pragma once

#include "common/proto/holdfast.pb.h"
#include "coordinator/catalogue.h"

namespace holdfast {

StatusOr<proto::LookupReply> Lookup(Catalogue& catalogue, const proto::LookupRequest& request);
StatusOr<proto::FindContentReply> FindContent(Catalogue& catalogue,
                                              const proto::FindContentRequest& request);
// A page ends after `limit` entries (at most 10,000; 0: 1,000) or about 16 MiB, and never between
// two versions of one name.
StatusOr<proto::ListReply> List(Catalogue& catalogue, const proto::ListRequest& request);
StatusOr<proto::ListCollectionsReply> ListCollections(Catalogue& catalogue,
                                                      const proto::ListCollectionsRequest&);
StatusOr<proto::GetSignatureReply> GetSignature(Catalogue& catalogue,
                                                const proto::GetSignatureRequest& request);
StatusOr<proto::GetSealingKeyReply> GetSealingKey(Catalogue& catalogue,
                                                  const proto::GetSealingKeyRequest& request);

}  // namespace holdfast

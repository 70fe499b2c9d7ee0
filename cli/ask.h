// One question to a service, and its answer.
#pragma once

#include <string>

#include "common/rpc/addresses.h"
#include "common/rpc/transport.h"

namespace holdfast::cli {

template <class Reply, class Request>
StatusOr<Reply> Ask(Transport& transport, const std::string& address, uint16_t method,
                    const Request& request, int64_t timeout_nanos = kRequestNanos) {
  ASSIGN_OR_RETURN(const RpcMessage reply,
                   CallAndWait(transport, address, MakeMessage(method, request), timeout_nanos));
  return ParseHead<Reply>(reply);
}

}  // namespace holdfast::cli

// Addresses of the services, whatever the transport.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast {

inline constexpr char kCoordinatorAddress[] = "coordinator";
inline std::string NodeAddress(uint32_t number) { return "node/" + std::to_string(number); }

}  // namespace holdfast

// Text for people: names escaped so that one message stays one line, sizes in IEC units.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast {

bool IsUtf8(std::string_view s);
// `s` with control characters, backslashes and bytes that are not UTF-8 as \xNN.
std::string Printable(std::string_view s);
// "1.50 GiB", "312 B".
std::string FormatBytes(uint64_t bytes);
// "4.2 s", "3 m 20 s", "2 h 05 m".
std::string FormatSeconds(double seconds);
// "12,345".
std::string FormatCount(uint64_t n);
// Parses "512KiB", "1MiB", "4096"; false on anything else.
bool ParseBytes(std::string_view text, uint64_t* bytes);
std::string Base64(std::string_view bytes);

}  // namespace holdfast

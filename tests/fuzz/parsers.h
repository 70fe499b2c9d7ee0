// Every parser of bytes that come from a disk or a peer, by name: what libFuzzer calls
// (formats_fuzz.cc), and what tests/common/parsers_test.cc plays seeds through.
//
// A parser may refuse an input or take it. What it takes must give the same bytes when it is
// written again, where the format has one way to write a thing; else what is written must be read
// as the same. Checksums and seals are put right here first, so that inputs get behind them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/bytes.h"

namespace holdfast::fuzz {

struct Parser {
  const char* name;
  // Ends the process when what holds of the format does not hold.
  void (*run)(Bytes input);
  std::function<std::vector<Buffer>()> seeds;
};

const std::vector<Parser>& Parsers();

}  // namespace holdfast::fuzz

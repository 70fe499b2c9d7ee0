#include "tests/fuzz/parsers.h"

#include <fstream>
#include <sstream>

#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {

Buffer GoldenFile(const std::string& name) {
  std::ifstream in(HOLDFAST_GOLDEN_DIR "/" + name, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  std::string text = out.str();
  Must(!text.empty(), name.c_str());
  if (!name.ends_with(".hex")) return ToBuffer(AsBytes(text));
  std::erase(text, '\n');
  Buffer bytes(text.size() / 2);
  Must(FromHex(text, bytes), name.c_str());
  return bytes;
}

std::function<std::vector<Buffer>()> Golden(std::vector<std::string> names, Buffer (*make)(Bytes)) {
  return [=] {
    std::vector<Buffer> seeds;
    for (const std::string& name : names) {
      const Buffer bytes = GoldenFile(name);
      seeds.push_back(make == nullptr ? bytes : make(bytes));
    }
    return seeds;
  };
}

const std::vector<Parser>& Parsers() {
  static const std::vector<Parser> all = [] {
    std::vector<Parser> parsers;
    for (const auto table : {SegmentParsers, NodeParsers, ManifestParsers, CatalogueParsers,
                             ClusterParsers, FileParsers, KvParsers, WireParsers}) {
      std::ranges::move(table(), std::back_inserter(parsers));
    }
    return parsers;
  }();
  return all;
}

}  // namespace holdfast::fuzz

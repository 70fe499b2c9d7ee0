// What the benchmarks print, and keep as JSON: the machine first, then a row for each measure.
#pragma once

#include <cstddef>
#include <string>

namespace holdfast::kernels {

class Report {
 public:
  // Prints the machine. With a file's name, keeps the rows so far there after each.
  explicit Report(std::string json_file = "");

  void Device(const std::string& name, size_t memory_bytes, double peak_operations);
  // `bytes` each of `count` messages, taken at so many GB/s (1e9 bytes); of `roofline`, which is
  // what the machine could do at best, where that is known.
  void Row(const std::string& path, const std::string& what, size_t count, size_t bytes,
           double gb_per_s, double roofline = 0);
  // Something else than bytes: so many million a second.
  void Rate(const std::string& path, const std::string& what, size_t count, double millions);

 private:
  void Add(const std::string& line, const std::string& json);

  const std::string json_file_;
  std::string json_;
};

}  // namespace holdfast::kernels

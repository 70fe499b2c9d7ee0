#include "cli/gc_text.h"

#include <gtest/gtest.h>

#include "common/base/clock.h"

namespace holdfast::cli {
namespace {

using Report = proto::GcStatusReply;

Report At(Report::Phase phase, uint64_t done, uint64_t total, int64_t nanos = 10 * kSecond) {
  Report report;
  report.set_phase(phase);
  report.set_done(done);
  report.set_total(total);
  report.set_phase_nanos(nanos);
  return report;
}

TEST(GcTextTest, Progress) {
  EXPECT_EQ(GcProgress(At(Report::SWEEP, 64, 256)), "sweeping · 25 % · 30.0 s left");
  EXPECT_EQ(GcProgress(At(Report::MARK, 1'000, 100'000)),
            "marking what is needed · 1 % · 16 m 30 s left");
  EXPECT_EQ(GcProgress(At(Report::SURVEY, 0, 256)), "looking at what is there · 0 %");
  // Nobody knows how much it will be.
  EXPECT_EQ(GcProgress(At(Report::PURGE, 0, 0)), "purging what was removed");
  EXPECT_EQ(GcProgress(At(Report::PURGE, 1, 0)), "purging what was removed · 1 version");
  EXPECT_EQ(GcProgress(At(Report::PURGE, 12'000, 0)), "purging what was removed · 12,000 versions");
  EXPECT_EQ(GcProgress(At(Report::COMPACT, 0, 0)), "compacting");
}

TEST(GcTextTest, Options) {
  proto::GcStartRequest a;
  a.set_undo_window_nanos(7 * 86400 * kSecond);
  EXPECT_EQ(GcOptions(a), "--undo-window 7d --grace 0");
  proto::GcStartRequest b = a;
  EXPECT_TRUE(SameGcOptions(a, b));
  b.set_grace_nanos(90 * 60 * kSecond);
  b.set_undo_window_nanos(45 * kSecond);
  b.set_dry_run(true);
  b.set_sparse_only(true);
  b.set_consent(true);
  EXPECT_EQ(GcOptions(b), "--dry-run --undo-window 45s --grace 90m --sparse-only --yes");
  EXPECT_FALSE(SameGcOptions(a, b));
}

}  // namespace
}  // namespace holdfast::cli

// Keys and rows of the catalogue, commit records, backups, cursors, marks.
#include "common/crypto/domain_keys.h"
#include "common/format/backup.h"
#include "common/io/sim_fs.h"
#include "coordinator/catalogue.h"
#include "coordinator/collector.h"
#include "coordinator/fsck_step.h"
#include "coordinator/mark_set.h"
#include "coordinator/remove.h"
#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {
namespace {

const AeadKey kKey = CountingArray<32>(0xe0);
const VaultId kVault = Counting<VaultId>(0x10);

template <class Row>
void RunRow(Bytes input, StatusOr<Row> (*decode)(std::string_view)) {
  const StatusOr<Row> row = decode(AsView(input));
  if (row.ok()) Must(Same(AsBytes(Encode(*row)), input), "a row has one form");
}

// One row is not told from another by its bytes: each decoder sees all of them.
void RowParser(Bytes input) {
  RunRow(input, DecodeCollectionRow);
  RunRow(input, DecodeObjectRow);
  RunRow(input, DecodeSessionRow);
  RunRow(input, DecodeSealingKeyRow);
  RunRow(input, DecodeSignatureRow);
  RunRow(input, DecodeOutboxRow);
  RunRow(input, DecodePrincipalRow);
  (void)CheckRemovedRow(AsView(input));
  const auto counters = DecodeCounters(AsView(input));
  if (counters.ok()) Must(Same(AsBytes(EncodeCounters(*counters)), input), "counters: one form");
  const auto removals = DecodeRemovals(AsView(input));
  if (removals.ok()) Must(Same(AsBytes(EncodeRemovals(*removals)), input), "removals: one form");
  const auto number = DecodeGcNumber(AsView(input));
  if (number.ok()) Must(Same(AsBytes(EncodeGcNumber(*number)), input), "a number has one form");
  const auto head = DecodeHead(AsView(input));
  if (head.ok()) Must(Same(AsBytes(EncodeHead(*head)), input), "a head has one form");
}

void KeyParser(Bytes input) {
  const std::string_view key = AsView(input);
  const auto object = ParseObjectKey(key);
  if (object.ok()) {
    Must(ObjectKey(object->collection, object->name, object->version_number) == key, "object key");
    Must(ObjectNameBegin(object->collection, object->name) <= key &&
             key < ObjectNameEnd(object->collection, object->name),
         "versions of a name lie together");
    Must(ObjectPrefixBegin(object->collection, object->name) <= key &&
             key < ObjectPrefixEnd(object->collection, object->name),
         "names of a prefix lie together");
  }
  const auto removed = ParseRemovedKey(key);
  if (removed.ok()) {
    Must(RemovedKey(removed->removed_nanos, removed->object_key) == key, "key of a removed one");
  }
  const CurvePublicKey principal = ParsePrincipalKey(key);
  Must(principal.is_zero() || PrincipalKey(principal) == key, "principal key");
  const SessionId session = ParseSessionKey(key);
  Must(session.is_zero() || SessionKey(session) == key, "session key");
}

// What a commit record holds when it is opened.
void CommitParser(Bytes input) {
  (void)DecodeCommitRecord(kKey, kVault, input);
  CommitRecord empty;
  empty.generation = 2;
  empty.number = 9;
  Buffer stored = EncodeCommitRecord(kKey, kVault, empty, FixedNonce());
  stored.resize(8 + 1 + 1 + VaultId::kSize + 8 + 8);
  Append(stored, AeadSealWithNonce(kKey, FixedNonce(), stored, input));
  const auto record = DecodeCommitRecord(kKey, kVault, stored);
  if (!record.ok()) return;
  Must(Same(EncodeCommitRecord(kKey, kVault, *record, FixedNonce()), stored),
       "a commit record has one form");
}

Buffer CommitBody(Bytes golden) {
  constexpr size_t kHead = 8 + 1 + 1 + VaultId::kSize + 8 + 8;
  return AeadOpenWithNonce(kKey, golden.first(kHead), golden.subspan(kHead), "golden").value();
}

Buffer BackupContext(std::string_view what, uint64_t number) {
  Buffer context;
  Writer writer(context);
  writer.Blob(what);
  writer.Id(kVault);
  writer.U64(number);
  return context;
}

Status ReadBackup(Bytes file, std::vector<BackupPage>& pages) {
  ASSIGN_OR_RETURN(BackupReader reader, BackupReader::Open(file, kKey, kVault));
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<BackupPage> page, reader.Next());
    if (!page) return absl::OkStatus();
    pages.push_back(*std::move(page));
  }
}

// A file as it is; then one of pages, each after its 16-bit length.
void BackupParser(Bytes input) {
  std::vector<BackupPage> pages;
  (void)ReadBackup(input, pages);
  pages.clear();
  Buffer file = EncodeBackupHeader(kVault);
  Reader reader(input);
  for (uint64_t number = 0; !reader.rest().empty() && reader.ok(); ++number) {
    const Bytes body = UpTo(reader, reader.U16());
    Append(file, EncodeBackupFrame(
                     AeadSealWithNonce(kKey, FixedNonce(), BackupContext("page", number), body)));
  }
  const bool whole = ReadBackup(file, pages).ok();
  Buffer again = EncodeBackupHeader(kVault);
  for (const BackupPage& page : pages) {
    Append(again, EncodeBackupFrame(SealBackupPage(kKey, kVault, page, FixedNonce())));
  }
  Must(again.size() <= file.size() && Same(again, Bytes(file).first(again.size())),
       "a backup's page has one form");
  Must(!whole || again.size() == file.size(), "a whole backup is read to its end");
}

std::vector<Buffer> BackupSeeds() {
  std::vector<Buffer> seeds = {GoldenFile("backup.hex"), {}};
  Buffer& file = seeds.back();
  for (uint64_t number = 0; number < 2; ++number) {
    BackupPage page;
    page.number = number;
    page.last = number == 1;
    page.head = number == 0 ? EncodeHead({}) : "";
    page.rows = {{"ca", "1"}, {ObjectKey(7, "name", 1), "row"}};
    const Buffer sealed = SealBackupPage(kKey, kVault, page, FixedNonce());
    const Buffer body =
        AeadOpenWithNonce(kKey, BackupContext("page", number), sealed, "page").value();
    Writer(file).U16(static_cast<uint16_t>(body.size()));
    Append(file, body);
  }
  return seeds;
}

// What a client sends back so that a listing or a check goes on.
void CursorParser(Bytes input) {
  (void)OpenBackupCursor(kKey, kVault, input);
  const Buffer sealed = SealBackupCursor(kKey, kVault, input.size(), AsView(input), FixedNonce());
  const auto backup = OpenBackupCursor(kKey, kVault, sealed);
  Must(backup.ok() && backup->after == AsView(input), "a backup's cursor comes back");
  const auto removal = DecodeRemoveCursor(AsView(input));
  if (removal.ok()) {
    Must(Same(AsBytes(EncodeRemoveCursor(*removal)), input), "a removal's cursor has one form");
  }
  const auto cursor = DecodeCursor(AsView(input));
  if (!cursor.ok()) return;
  const std::string again = EncodeCursor(*cursor);
  const auto decoded = DecodeCursor(again);
  Must(decoded.ok() && EncodeCursor(*decoded) == again, "a cursor comes back");
}

std::vector<Buffer> CursorSeeds() {
  FsckCursor cursor;
  cursor.phase = FsckCursor::kCommits;
  cursor.away = {1, 2};
  cursor.key = ObjectKey(7, "name", 1);
  cursor.gone["key"] = 5;
  return {ToBuffer(AsBytes(EncodeCursor(cursor))),
          ToBuffer(AsBytes(EncodeRemoveCursor({.time_nanos = 5, .name = "name"}))),
          SealBackupCursor(kKey, kVault, 3, "after", FixedNonce())};
}

// Writes to a disk what the input has in place of a block of marks.
void MarkParser(Bytes input) {
  constexpr size_t kIds = 2048;
  SimFs fs(1);
  auto set = MarkSet::Make(fs, "/marks").value();
  Buffer block;
  for (uint64_t i = 0; i < kIds; ++i) {
    RecordId id;
    id.value[31] = static_cast<uint8_t>(i);
    id.value[30] = static_cast<uint8_t>(i >> 8);
    Must(set->Add(id).ok(), "add");
    Append(block, id.bytes());
  }
  const auto before = set->Load(0);
  Must(before.ok() && before->size() == kIds, "marks come back");
  if (input.empty()) return;
  Buffer written = ToBuffer(input.subspan(1));
  if (input[0] & 1) {  // Ids of another set, under a checksum that is right.
    written.resize(kIds * RecordId::kSize);
    Buffer covered = written;
    Writer writer(covered);
    writer.U32(0);
    writer.U64(0);
    Append(written, ChecksumOf(covered).bytes());
  }
  OpenOptions options;
  options.write = true;
  auto file = fs.Open("/marks/mark-0", options).value();
  Must(file->Truncate(0).ok() && file->WriteAt(0, written).ok(), "write");
  const auto after = set->Load(0);
  Must(after.ok() == ((input[0] & 1) != 0), "marks are as they were written, or refused");
  Must(!after.ok() || std::ranges::is_sorted(*after), "marks come sorted");
}

}  // namespace

std::vector<Parser> CatalogueParsers() {
  return {
      {"catalogue-row", RowParser,
       [] {
         auto seeds = Golden({"row-collection.hex", "row-object.hex", "row-object-removed.hex",
                              "row-session.hex", "row-sealing-key.hex", "row-signature.hex",
                              "row-outbox.hex", "row-principal.hex"})();
         seeds.push_back(ToBuffer(AsBytes(EncodeHead({}))));
         seeds.push_back(ToBuffer(AsBytes(EncodeCounters(Counters()))));
         seeds.push_back(ToBuffer(AsBytes(EncodeGcNumber(7))));
         seeds.push_back(ToBuffer(AsBytes(EncodeRemovals({{"request", "answer"}, {"", ""}}))));
         return seeds;
       }},
      {"catalogue-key", KeyParser,
       [] {
         auto seeds = Golden({"object-key.hex", "removed-key.hex"})();
         seeds.push_back(ToBuffer(AsBytes(SessionKey(Counting<SessionId>(1)))));
         seeds.push_back(ToBuffer(AsBytes(PrincipalKey(Counting<CurvePublicKey>(1)))));
         return seeds;
       }},
      {"commit-record", CommitParser, Golden({"commit-record.hex"}, CommitBody)},
      {"backup", BackupParser, BackupSeeds},
      {"cursor", CursorParser, CursorSeeds},
      {"mark-file", MarkParser,
       [] {
         return std::vector<Buffer>{{0}, {1}, Buffer(100, 3)};
       }},
  };
}

}  // namespace holdfast::fuzz

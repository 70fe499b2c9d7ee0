#!/usr/bin/env python3
"""What goes in comes out: content, names, attributes, links, holes, ranges."""

import hashlib
import os
import random
import shutil
import socket

import harness
from harness import FULL, MIB, HoldfastTest, random_bytes, scan_tree, write_file


class RoundTripTest(HoldfastTest):

    def round_trip(self, source, vault=None, sparse=False, verify=True):
        """Ingests source, restores it, compares; gives the vault and the ingest's result."""
        vault = vault or self.vault()
        result = vault.ingest(source)
        self.assertEqual(0, result.summary["errors"])
        out = self.path("out")
        vault.restore(out)
        self.assert_same_tree(source, os.path.join(out, os.path.basename(source)), sparse=sparse)
        listed = vault.ls()
        entries, _, _ = scan_tree(source, content=False)
        base = os.fsencode(os.path.basename(source))
        wanted = sorted(base + b"/" + p if p else base for p in entries)
        self.assertEqual(wanted, listed, "ls lists every name once, in byte order")
        if verify:
            vault.verify()
            vault.fsck()
        return vault, result

    def test_real_files(self):
        """/usr/share: whole in full, some of it in quick."""
        parts = ["/usr/share"] if FULL else ["/usr/share/doc", "/usr/share/perl5", "/usr/share/zoneinfo"]
        vault = self.vault()
        for part in parts:
            if not os.path.isdir(part):
                continue
            name = os.path.basename(part)
            vault.ingest(part + "/.", to=name)
            out = self.path("out-" + name)
            vault.restore(out, name)
            # The top directory has no name in the collection, so nothing of it is kept.
            info = os.stat(part)
            os.chmod(out, info.st_mode & 0o7777)
            os.chown(out, info.st_uid, info.st_gid)
            os.utime(out, ns=(info.st_atime_ns, info.st_mtime_ns))
            self.assert_same_tree(part, out)
            harness.remove_tree(out)
        vault.verify()

    def test_awkward_names(self):
        source = self.new_dir("source")
        at = os.fsencode(source)
        names = [b"new\nline", b"not-utf8-\xff\xfe\x80", b"tab\tcr\resc\x1b[31m", b" leading", b"trailing ",
                 b"-rf", b"--json", b"quote'\"`$(x)", b"back\\slash", b"\x01\x02\x7f", b"*?[a]{b}",
                 "e\u0301 and \u00e9".encode(), "\U0001f600".encode(), b"%s%n%d", b"..a", b"...", b"~", b"#",
                 b"a" * 255, b"\xfe" * 255, "\u00e4".encode() * 127]
        for name in names:
            write_file(at + b"/" + name, b"content of " + name)
        os.mkdir(at + b"/dir\xff\n")
        write_file(at + b"/dir\xff\n/in\xc3\x28side", b"x")
        os.symlink(b"target\xff\nwith newline", at + b"/link\xff")
        os.symlink(b"t" * 4000, at + b"/link-long")
        vault, result = self.round_trip(source)
        acknowledged = {harness.name_of(line) for line in result.json_of("object")}
        for name in names:
            self.assertIn(b"source/" + name, acknowledged)
            self.assertEqual(b"content of " + name, vault.cat(b"source/" + name))
        for line in vault.run("ls", "--json", "c").json_of("object"):
            self.assertIn(harness.name_of(line), acknowledged)

    def test_paths_longer_than_path_max(self):
        source = self.new_dir("source")
        fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        path = b"source"
        while len(path) < 4200 - 200:
            component = (b"deep-%04d-" % len(path)).ljust(200, b"x")
            os.mkdir(component, dir_fd=fd)
            below = os.open(component, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
            path += b"/" + component
        leaf = b"f" * (4200 - len(path) - 1)
        file = os.open(leaf, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
        os.write(file, b"at the end of a long path")
        os.close(file)
        os.link(leaf, b"second-name", src_dir_fd=fd, dst_dir_fd=fd)
        os.symlink(b"nowhere", b"symlink", dir_fd=fd)
        os.close(fd)
        path += b"/" + leaf
        self.assertEqual(4200, len(path))
        vault, _ = self.round_trip(source)
        self.assertEqual(b"at the end of a long path", vault.cat(path))

    def test_a_restore_run_again(self):
        """What is there and whole is left alone; what is something else is named and kept."""
        source = self.new_dir("source")
        for name in ("good", "torn", "gone", ".holdfast-restore-0"):
            write_file(os.path.join(source, name), os.urandom(100_000))
        write_file(os.path.join(source, "long"), os.urandom(9_000_000))
        os.symlink("good", os.path.join(source, "link"))
        os.link(os.path.join(source, "good"), os.path.join(source, "hard"))
        vault = self.vault()
        vault.ingest(source)
        to = self.path("to")
        out = os.path.join(to, "source")
        vault.restore(to)
        self.assert_same_tree(source, out)
        vault.restore(to)
        os.unlink(os.path.join(out, "gone"))
        os.truncate(os.path.join(out, "torn"), 5_000)
        result = vault.restore(to, expect=harness.SOME_FAILED)
        self.assert_one_error_line(result, "torn", "is there already")
        self.assertEqual(5_000, os.path.getsize(os.path.join(out, "torn")))
        os.unlink(os.path.join(out, "torn"))
        vault.restore(to)
        self.assert_same_tree(source, out)

    def test_empty_files_and_directories(self):
        source = self.new_dir("source")
        for i in range(50):
            write_file(os.path.join(source, f"empty{i}"), b"")
        os.makedirs(os.path.join(source, "d1/d2/d3"))
        os.mkdir(os.path.join(source, "d4"))
        vault, _ = self.round_trip(source)
        self.assertEqual(b"", vault.cat("source/empty7"))
        empty = self.new_dir("alone")
        vault.ingest(empty, to="only-a-directory")
        vault.restore(self.path("out2"), "only-a-directory")
        self.assert_same_tree(empty, self.path("out2/alone"))

    def test_sparse_file(self):
        source = self.new_dir("source")
        size = (6 << 30) if FULL else 512 * MIB
        rng = random.Random(harness.SEED)
        with open(os.path.join(source, "sparse"), "wb") as file:
            file.truncate(size)
            for _ in range(12):
                file.seek(rng.randrange(size - MIB) & ~4095)
                file.write(rng.randbytes(300_000))
            file.seek(size - 5)
            file.write(b"there")
        with open(os.path.join(source, "all-hole"), "wb") as file:
            file.truncate(64 * MIB + 1)
        # Zeros that the source wrote out come back as the same bytes.
        write_file(os.path.join(source, "written-zeros"), bytes(5 * MIB))
        vault, result = self.round_trip(source, sparse=True)
        self.assertLess(result.summary["stored_bytes"], 64 * MIB)
        self.assertEqual(b"there", vault.cat("source/sparse", "--range", f"{size - 5}-{size - 1}"))

    def test_many_small_files_in_one_directory(self):
        source = self.new_dir("source")
        count = 100_000 if FULL else 20_000
        rng = random.Random(harness.SEED)
        for i in range(count):
            write_file(os.path.join(source, f"{i:07}"), rng.randbytes(rng.randrange(400)))
        _, result = self.round_trip(source)
        self.assertEqual(count, result.summary["files"])

    def test_hard_links(self):
        source = self.new_dir("source")
        os.makedirs(os.path.join(source, "z/y"))
        first = write_file(os.path.join(source, "m"), random_bytes(2 * MIB, harness.SEED))
        for name in ("a", "z/b", "z/y/c"):
            os.link(first, os.path.join(source, name))
        pair = write_file(os.path.join(source, "z/empty1"), b"")
        os.link(pair, os.path.join(source, "z/y/empty2"))
        write_file(os.path.join(source, "twin"), random_bytes(2 * MIB, harness.SEED))  # No link.
        vault, result = self.round_trip(source)
        self.assertLess(result.summary["stored_bytes"], 2.5 * MIB)
        for name in ("a", "m", "z/b", "z/y/c", "twin"):
            self.assertEqual(random_bytes(2 * MIB, harness.SEED), vault.cat("source/" + name), name)
        # Only some of the names: each is a file of its own or a link to one that is there.
        vault.restore(self.path("part"), "c/source/z")
        with open(self.path("part/source/z/y/c"), "rb") as file:
            self.assertEqual(random_bytes(2 * MIB, harness.SEED), file.read())

    def test_attributes(self):
        source = self.new_dir("source")
        for i, mode in enumerate((0o000, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o1777, 0o7777)):
            write_file(os.path.join(source, f"mode{i}"), b"%o" % mode, mode)
            os.mkdir(os.path.join(source, f"dir{i}"))
            os.chmod(os.path.join(source, f"dir{i}"), mode | 0o700)
        if os.geteuid() == 0:
            os.chown(os.path.join(source, "mode2"), 12345, 54321)
            os.chmod(os.path.join(source, "mode2"), 0o640)
            os.chown(write_file(os.path.join(source, "suid"), b"s"), 1, 2)
            os.chmod(os.path.join(source, "suid"), 0o6755)  # chown clears these; order matters.
            os.symlink("mode2", os.path.join(source, "link"))
            os.chown(os.path.join(source, "link"), 77, 88, follow_symlinks=False)
        for i, mtime in enumerate((0, 1, 999_999_999, 1_234_567_890_123_456_789, -1_000_000_001,
                                   4_102_444_800_000_000_007)):
            path = write_file(os.path.join(source, f"time{i}"), b"t")
            os.utime(path, ns=(mtime, mtime))
        os.utime(os.path.join(source, "dir3"), ns=(5, 1_111_111_111_222_222_222))
        try:
            for name in ("mode2", "dir2"):
                os.setxattr(os.path.join(source, name), "user.empty", b"")
                os.setxattr(os.path.join(source, name), "user.binary", bytes(range(256)))
                os.setxattr(os.path.join(source, name), "user.\u00e4", b"v" * 2000)
            if os.geteuid() == 0:
                os.setxattr(os.path.join(source, "mode3"), "trusted.case", b"17/2026")
        except OSError as error:
            print(f"no extended attributes here: {error}")
        if os.geteuid() != 0:
            os.chmod(os.path.join(source, "mode0"), 0o400)  # Nobody else can read 000.
        os.utime(source, ns=(0, 1_500_000_000_000_000_001))
        self.round_trip(source)

    def test_attributes_that_cannot_be_set_are_named(self):
        """Root without CAP_SYS_ADMIN, as in a container: the files are there all the same."""
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            self.skipTest("needs root and setpriv, to drop a capability")
        source = self.new_dir("source")
        write_file(os.path.join(source, "file\n1"), b"content")
        try:
            os.setxattr(os.path.join(source, "file\n1"), "trusted.case", b"17/2026")
        except OSError as error:
            self.skipTest(f"no trusted attributes here: {error}")
        vault = self.vault()
        vault.ingest(source)
        out = self.path("out")
        result = harness.run_command(["setpriv", "--bounding-set=-sys_admin", *vault.args(
            "restore", "c/source/", "--to", out, "--quiet", "--json")])
        self.assertEqual(harness.OK, result.code, str(result))
        self.assert_one_error_line(result, "source/file\\x0a1", "trusted.case (Operation not permitted)")
        self.assertEqual(1, result.summary["xattrs_skipped"])
        self.assertEqual([b"source/file\n1"],
                         [harness.name_of(line) for line in result.json_of("xattrs_skipped")])
        with open(os.path.join(out, "source/file\n1"), "rb") as restored:
            self.assertEqual(b"content", restored.read())

    def test_special_files_are_listed_and_counted_only(self):
        source = self.new_dir("source")
        write_file(os.path.join(source, "file"), b"x")
        os.mkfifo(os.path.join(source, "fifo"))
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(source)  # A socket's path is short.
            listener.bind("socket")
            os.chdir(here)
        vault = self.vault()
        result = vault.ingest(source)
        self.assertEqual(2, result.summary["special"])
        self.assertEqual([b"source", b"source/file"], vault.ls())

    def test_symbolic_links_are_never_followed(self):
        source = self.new_dir("source")
        outside = self.new_dir("outside")
        write_file(os.path.join(outside, "secret"), b"not part of it")
        os.symlink(outside, os.path.join(source, "to-directory"))
        os.symlink("loop", os.path.join(source, "loop"))
        os.symlink("/etc/passwd", os.path.join(source, "absolute"))
        vault, _ = self.round_trip(source)
        self.assertNotIn(b"source/to-directory/secret", vault.ls())

    def test_names_as_cp_gives_them(self):
        source = self.new_dir("top")
        os.mkdir(os.path.join(source, "d"))
        write_file(os.path.join(source, "d/f"), b"1")
        vault = self.vault()
        for i, (given, wanted) in enumerate((
                (source, [b"top", b"top/d", b"top/d/f"]),
                (source + "/", [b"top", b"top/d", b"top/d/f"]),
                (source + "/.", [b"d", b"d/f"]),
                (source + "/d/f", [b"f"]))):
            vault.ingest(given, to=f"c{i}")
            self.assertEqual(wanted, vault.ls(f"c{i}"), given)

    def test_ranges_of_cat(self):
        size = 7 * MIB + 321
        data = random_bytes(size, harness.SEED)
        source = write_file(self.path("object"), data)
        vault = self.vault(init_args=["--chunk-size", "64KiB"])
        vault.ingest(source)
        self.assertEqual(data, vault.cat("object"))
        rng = random.Random(harness.SEED)
        ranges = [(0, 0), (0, size - 1), (size - 1, size - 1), (65535, 65536), (MIB, MIB + 1)]
        ranges += [tuple(sorted((rng.randrange(size), rng.randrange(size)))) for _ in range(8)]
        for first, last in ranges:
            got = vault.cat("object", "--range", f"{first}-{last}")
            self.assertEqual(hashlib.sha256(data[first:last + 1]).digest(),
                             hashlib.sha256(got).digest(), f"bytes {first}-{last}")
        self.assertEqual(data[-10:], vault.cat("object", "--range", f"{size - 10}-{size + 100}"))
        for wrong in ("5-4", "x-y", "", "-", "1"):
            vault.run("cat", "c/object", f"--range={wrong}", expect=harness.USAGE)

    def test_digests_are_those_of_the_standard_tools(self):
        data = random_bytes(3 * MIB + 7, harness.SEED)
        source = write_file(self.path("object"), data)
        vault = self.vault()
        vault.ingest(source)
        (entry,) = vault.run("ls", "-l", "--json", "c").json_of("object")
        for algorithm in ("md5", "sha1", "sha256"):
            self.assertEqual(hashlib.new(algorithm, data).hexdigest(), entry[algorithm])
        self.assertEqual(len(data), entry["size"])
        self.assertEqual("file", entry["kind"])
        text = vault.run("ls", "-l", "c").out.decode()
        self.assertIn(hashlib.sha256(data).hexdigest(), text)
        (stat,) = vault.run("stat", "c/object", "--json").json
        self.assertEqual(hashlib.sha256(data).hexdigest(), stat["sha256"])
        self.assertEqual(len(data), sum(chunk["length"] for chunk in stat["chunks"]))

    def test_restore_by_prefix_and_not_over_existing_files(self):
        source = self.new_dir("source")
        for name in ("a/1", "a/2", "ab/3", "b/4"):
            os.makedirs(os.path.join(source, os.path.dirname(name)), exist_ok=True)
            write_file(os.path.join(source, name), name.encode())
        vault = self.vault()
        vault.ingest(source + "/.")
        vault.restore(self.path("out"), "c/a")
        self.assertEqual(["a"], os.listdir(self.path("out")))
        self.assertEqual([b"a", b"a/1", b"a/2", b"ab", b"ab/3"], vault.ls("c/a"))
        write_file(self.path("out/a/1"), b"mine")
        result = vault.restore(self.path("out"), "c/a", expect=None)
        self.assertIn(result.code, (harness.FAILED, harness.SOME_FAILED), str(result))
        with open(self.path("out/a/1"), "rb") as file:
            self.assertEqual(b"mine", file.read())

    def test_versions(self):
        path = self.path("object")
        vault = self.vault()
        for i in range(3):
            write_file(path, b"version %d" % i)
            vault.ingest(path)
        self.assertEqual(b"version 2", vault.cat("object"))
        self.assertEqual([b"object"], vault.ls())
        (entry,) = vault.run("ls", "-l", "--json", "c").json_of("object")
        self.assertEqual(3, entry["versions"])
        self.assertEqual(3, vault.verify().summary["versions"])

    def test_two_disks_and_passphrase(self):
        source = self.path("source")
        harness.make_media_tree(source, harness.SEED, files=60, mean=50_000)
        passphrase = write_file(self.path("passphrase"), b"correct horse battery staple\n")
        vault = self.vault(nodes=("disk-a", "disk-b"), init_args=["--passphrase-file", passphrase])
        with open(vault.key, "rb") as key:
            self.assertNotIn(b"correct horse", key.read())
        vault.ingest(source, "--passphrase-file", passphrase)
        vault.run("restore", "c", "--to", self.path("out"), "--passphrase-file", passphrase)
        self.assert_same_tree(source, self.path("out/source"))
        records = vault.records(harness.KIND_CHUNK)
        ids = {disk: sorted(r.id for r in records if r.path.startswith(disk + "/"))
               for disk in vault.nodes}
        self.assertEqual(ids[vault.nodes[0]], ids[vault.nodes[1]], "two disks, two copies")
        wrong = write_file(self.path("wrong"), b"another\n")
        result = vault.run("ls", "--passphrase-file", wrong, expect=harness.ACCESS)
        self.assert_one_error_line(result)


if __name__ == "__main__":
    harness.main()

#!/usr/bin/env python3
"""Bad input and bad luck: the right exit code, one clear line, and the rest goes on."""

import filecmp
import glob
import os
import shlex
import shutil
import signal
import subprocess
import time
import unittest

import harness
from harness import MIB, HoldfastTest, write_file

NOBODY = 65534


class BadInputTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        self.v = self.vault()
        self.object = write_file(self.path("object"), b"content")
        self.v.ingest(self.object)

    def assert_refused(self, code, *args, words=(), **kwargs):
        result = self.v.run(*args, expect=code, **kwargs)
        self.assert_one_error_line(result, *words)
        self.assertEqual(b"", result.out)

    def test_wrong_key(self):
        other = self.vault("other")
        for verb in (["ls", "c"], ["cat", "c/object"], ["verify"], ["status"], ["fsck"],
                     ["restore", "c", "--to", self.path("out")], ["ingest", self.object, "--to", "c"],
                     ["fsck", "--rebuild-catalogue"]):
            self.assert_refused(harness.ACCESS, *verb, key=other.key)
        self.assertEqual([b"object"], self.v.ls())

    def test_key_file_missing(self):
        self.assert_refused(harness.ACCESS, "ls", key=self.path("no-key"), words=["no-key"])

    def test_key_file_damaged(self):
        size = os.path.getsize(self.v.key)
        for offset in (0, size // 3, size // 2, size - 5):
            damaged = self.path(f"damaged-{offset}")
            shutil.copy(self.v.key, damaged)
            harness.flip(damaged, offset)
            result = self.v.run("ls", "c", key=damaged, expect={harness.INTEGRITY, harness.ACCESS})
            self.assert_one_error_line(result, os.path.basename(damaged))
        write_file(self.path("not-a-key"), b"hello\n")
        result = self.v.run("ls", key=self.path("not-a-key"),
                            expect={harness.INTEGRITY, harness.ACCESS})
        self.assert_one_error_line(result)

    def test_key_file_is_for_its_owner_only(self):
        self.assertEqual(0o600, os.stat(self.v.key).st_mode & 0o7777)

    def test_no_vault(self):
        self.v.dir = self.path("nowhere")
        for verb in (["ls"], ["status"], ["verify"], ["fsck"], ["ingest", self.object, "--to", "c"]):
            self.assert_refused(harness.NO_VAULT, *verb, words=["nowhere"])
        self.v.dir = self.new_dir("empty")
        self.assert_refused(harness.NO_VAULT, "ls")
        self.assertEqual([], os.listdir(self.v.dir))

    def test_not_found(self):
        for verb in (["ls", "none"], ["stat", "none/x"], ["cat", "none/x"], ["verify", "none"],
                     ["restore", "none", "--to", self.path("out")]):
            self.assert_refused(harness.NOT_FOUND, *verb, words=["none"])
        for verb in (["stat", "c/absent"], ["cat", "c/absent"], ["verify", "c/absent"],
                     ["restore", "c/absent", "--to", self.path("out")]):
            self.assert_refused(harness.NOT_FOUND, *verb, words=["absent"])

    def test_usage(self):
        for verb in (["ls", "--no-such-flag"], ["no-such-verb"], [], ["ingest"], ["cat"],
                     ["ingest", self.object], ["restore", "c"], ["init"], ["stat", "c"],
                     ["ingest", self.object, "--to", "c", "--digests", "crc32"],
                     ["ingest", self.object, "--to", "c", "--engine", "abacus"],
                     ["ingest", self.object, "--to", "a/b"], ["ingest", self.object, "--to", ""],
                     ["key", "export", "--out", self.path("k")], ["completion", "fish"],
                     ["ls", "c", "surplus"], ["ingest", self.object, "--to=", "--quiet"]):
            self.assert_refused(harness.USAGE, *verb)
        for size in ("5000", "96KiB", "8MiB", "x", "0"):
            self.assert_refused(harness.USAGE, "init", self.path("new"), "--chunk-size", size,
                                vault=False, key=self.path("new-key"))
        self.assertFalse(os.path.exists(self.path("new-key")))

    def test_init_takes_nothing_over(self):
        result = self.v.run("init", self.v.dir, vault=False, expect=harness.FAILED)
        self.assert_one_error_line(result)
        full = self.new_dir("full")
        write_file(os.path.join(full, "file"), b"mine")
        result = self.v.run("init", full, vault=False, key=self.path("k2"), expect=harness.FAILED)
        self.assert_one_error_line(result)
        self.assertEqual(["file"], os.listdir(full))
        self.assertFalse(os.path.exists(self.path("k2")))
        self.assertEqual([b"object"], self.v.ls())

    def test_source_that_is_not_there(self):
        result = self.v.run("ingest", self.path("absent"), "--to", "c", "--quiet",
                            expect=harness.SOME_FAILED)
        self.assert_one_error_line(result, "absent")
        good = write_file(self.path("good"), b"good")
        result = self.v.run("ingest", self.path("absent"), good, "--to", "c", "--quiet",
                            expect=harness.SOME_FAILED)
        self.assert_one_error_line(result, "absent")
        self.assertEqual(b"good", self.v.cat("good"))

    def test_sources_that_would_share_names(self):
        for top in ("x", "y"):
            write_file(os.path.join(self.new_dir(top), "same"), top.encode())
        self.assert_refused(harness.USAGE, "ingest", self.path("x/same"), self.path("y/same"),
                            "--to", "c", words=["x/same", "y/same"])

    def test_names_that_look_like_lists(self):
        for name in ("[a,b]", "a", "b", "[", "\x01"):
            write_file(os.path.join(self.new_dir("lists/" + name), "inside"), name.encode())
        self.v.run("ingest", "[a,b]", "[", "\x01", "--to", "lists", "--quiet",
                   cwd=self.path("lists"))
        self.assertEqual({b"[a,b]", b"[a,b]/inside", b"[", b"[/inside", b"\x01", b"\x01/inside"},
                         set(self.v.ls("lists")))

    def test_a_stdout_that_takes_nothing(self):
        """What a script should read must not end early without a word."""
        for verb in (["ls", "c"], ["status"], ["verify", "--json"], ["fsck", "--json"]):
            with open("/dev/full", "wb") as full:
                result = self.v.run(*verb, stdout=full, expect=harness.FAILED)
            self.assert_one_error_line(result, "stdout")
        # A closed one must not be a file of the vault by the same number.
        for redirection in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
            command = " ".join(map(shlex.quote, self.v.args("cat", "c/object"))) + " " + redirection
            self.assertNotEqual(0, subprocess.run(command, shell=True, check=False).returncode)
        for path in self.v.files():
            if os.path.basename(path).lower() == "lock":
                self.assertEqual(0, os.path.getsize(path), path)

    def test_stat_of_an_attribute_with_any_name(self):
        path = write_file(self.path("attributed"), b"x")
        try:
            os.setxattr(path, b"user.\xff", b"\xfe")
        except OSError as error:
            self.skipTest(f"no extended attributes here: {error}")
        self.v.ingest(path)
        self.assertIn(b"xattrs", self.v.run("stat", "c/attributed").out)
        self.v.run("stat", "--json", "c/attributed")

    def test_init_takes_a_key_of_its_own(self):
        self.assert_refused(harness.USAGE, "init", self.path("second"), vault=False, key=self.v.key,
                            words=[self.v.key])
        self.assertFalse(os.path.exists(self.path("second")))

    def test_flags_before_or_after_the_verb(self):
        for args in (["--vault", self.v.dir, "--key", self.v.key, "ls", "c"],
                     ["ls", "--vault", self.v.dir, "--key", self.v.key, "c"],
                     ["ls", "c", "--key", self.v.key, "--vault", self.v.dir]):
            result = harness.run_command([harness.BINARY, *args])
            self.assertEqual((0, b"object\n"), (result.code, result.out), str(result))
        environment = dict(os.environ, HOLDFAST_VAULT=self.v.dir, HOLDFAST_KEY=self.v.key)
        result = harness.run_command([harness.BINARY, "cat", "c/object"], env=environment)
        self.assertEqual((0, b"content"), (result.code, result.out), str(result))

    def test_help_teaches(self):
        result = harness.run_command([harness.BINARY, "--help"])
        self.assertEqual(0, result.code)
        for word in (b"init", b"ingest", b"ls", b"stat", b"cat", b"restore", b"verify", b"status",
                     b"fsck", b"key"):
            self.assertIn(word, result.out)
        result = harness.run_command([harness.BINARY, "ingest", "--help"])
        self.assertEqual(0, result.code)
        self.assertIn(b"--to", result.out)

    def test_completion_is_a_script(self):
        result = harness.run_command([harness.BINARY, "completion", "bash"])
        self.assertEqual(0, result.code, str(result))
        checked = subprocess.run(["bash", "-n"], input=result.out, check=False, capture_output=True)
        self.assertEqual(0, checked.returncode, checked.stderr)

    def test_output_to_a_closed_pipe(self):
        """`cat | head` ends; it does not hang, and it does not die of a signal unseen."""
        big = write_file(self.path("big"), os.urandom(8 * MIB))
        self.v.ingest(big)
        script = '"$@" | head -c 10 | wc -c; exit ${PIPESTATUS[0]}'
        result = harness.run_command(["bash", "-c", script, "-", *self.v.args("cat", "c/big")],
                                     timeout=60)
        self.assertEqual(b"10", result.out.strip())
        self.assertIn(result.code, (0, 1), str(result))


class BusyTest(HoldfastTest):

    def test_second_command_while_an_ingest_holds_the_vault(self):
        source = self.path("source")
        harness.make_media_tree(source, harness.SEED, files=300, mean=100_000, large=[150 * MIB])
        vault = self.vault()
        log = self.path("log")
        with open(log, "wb") as out, open(self.path("err"), "wb") as err:
            ingest = subprocess.Popen(vault.args("ingest", source, "--to", "c", "--json", "--quiet"),
                                      stdout=out, stderr=err)
        try:
            deadline = time.monotonic() + 60
            while os.path.getsize(log) == 0 and ingest.poll() is None:
                self.assertLess(time.monotonic(), deadline, "no object acknowledged in a minute")
                time.sleep(0.005)
            self.assertIsNone(ingest.poll(), "the ingest was over too soon to see anything")
            ingest.send_signal(signal.SIGSTOP)  # It holds the vault as long as this test needs.
            for verb in (["ls", "c"], ["status"], ["verify"], ["ingest", source, "--to", "d"],
                         ["fsck", "--rebuild-catalogue"]):
                result = vault.run(*verb, expect=harness.BUSY, timeout=30)
                self.assert_one_error_line(result)
            ingest.send_signal(signal.SIGCONT)
            self.assertEqual(0, ingest.wait(timeout=300))
        finally:
            if ingest.poll() is None:
                ingest.kill()
                ingest.wait()
        vault.restore(self.path("out"))
        self.assert_same_tree(source, self.path("out/source"))


class UnreadableTest(HoldfastTest):
    """As a user who is not root; root reads everything."""

    def setUp(self):
        super().setUp()
        self.as_nobody = []
        if os.geteuid() != 0:
            return
        if not shutil.which("setpriv"):
            self.skipTest("root, and no setpriv to become somebody else")
        os.chmod(self.tmp, 0o755)
        self.binary = shutil.copy(harness.BINARY, self.path("holdfast"))
        os.chmod(self.binary, 0o755)
        self.home = self.new_dir("home")
        os.chown(self.home, NOBODY, NOBODY)
        self.as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]

    def run_as_nobody(self, *args):
        binary = self.binary if self.as_nobody else harness.BINARY
        return harness.run_command([*self.as_nobody, binary, *args], cwd=self.tmp)

    def test_unreadable_files_are_named_and_the_rest_is_stored(self):
        base = self.path("home") if self.as_nobody else self.tmp
        os.makedirs(base, exist_ok=True)
        where = ["--vault", os.path.join(base, "vault"), "--key", os.path.join(base, "key")]
        source = self.new_dir("source")
        for i in range(20):
            write_file(os.path.join(source, f"file{i:02}"), os.urandom(5000))
        os.chmod(os.path.join(source, "file07"), 0)
        os.mkdir(os.path.join(source, "locked"))
        write_file(os.path.join(source, "locked/inside"), b"x")
        os.chmod(os.path.join(source, "locked"), 0)
        self.addCleanup(os.chmod, os.path.join(source, "locked"), 0o755)

        made = self.run_as_nobody("init", where[1], *where[2:])
        self.assertEqual(0, made.code, str(made))
        result = self.run_as_nobody("ingest", source, "--to", "c", "--json", "--quiet", *where)
        self.assertEqual(harness.SOME_FAILED, result.code, str(result))
        self.assertEqual({b"source/file07", b"source/locked"},
                         {harness.name_of(e) for e in result.json_of("error")})
        self.assertEqual(2, result.summary["errors"])
        self.assertEqual(2, len(result.error_lines), str(result))
        for name, line in zip(("file07", "locked"), sorted(result.error_lines)):
            self.assertIn(name, line)

        listed = self.run_as_nobody("ls", "-0", "c", *where).out.split(b"\0")[:-1]
        self.assertEqual(19, sum(b"/file" in name for name in listed))
        self.assertNotIn(b"source/file07", listed)
        restored = self.run_as_nobody("restore", "c", "--to", os.path.join(base, "out"), *where)
        self.assertEqual(0, restored.code, str(restored))
        for i in range(20):
            if i == 7:
                continue
            with open(os.path.join(source, f"file{i:02}"), "rb") as want, \
                    open(os.path.join(base, f"out/source/file{i:02}"), "rb") as got:
                self.assertEqual(want.read(), got.read())
        # Made readable, the next ingest stores what was missing and nothing else.
        os.chmod(os.path.join(source, "file07"), 0o644)
        os.chmod(os.path.join(source, "locked"), 0o755)
        again = self.run_as_nobody("ingest", source, "--to", "c", "--json", "--quiet", *where)
        self.assertEqual(0, again.code, str(again))
        stored = {harness.name_of(o) for o in again.json_of("object") if o["state"] == "stored"}
        self.assertLessEqual({b"source/file07", b"source/locked/inside"}, stored)
        self.assertLessEqual(stored, {b"source/file07", b"source/locked/inside", b"source/locked"})

    def test_a_segment_that_may_not_be_opened_is_not_damaged(self):
        base = self.path("home") if self.as_nobody else self.tmp
        where = ["--vault", os.path.join(base, "vault"), "--key", os.path.join(base, "key")]
        source = self.new_dir("source")
        write_file(os.path.join(source, "one"), os.urandom(300_000))

        def run(*args, expect=harness.OK):
            result = self.run_as_nobody(*args, *where)
            self.assertEqual(expect, result.code, str(result))
            return result

        self.assertEqual(0, self.run_as_nobody("init", where[1], *where[2:]).code)
        run("ingest", source, "--to", "c", "--quiet")
        (segment,) = glob.glob(os.path.join(base, "vault/node-0/segments/*.seg"))
        os.chmod(segment, 0)
        write_file(os.path.join(source, "two"), os.urandom(300_000))
        for command in (["ingest", source, "--to", "c", "--quiet"], ["verify", "--quiet"], ["fsck"],
                        ["fsck", "--repair"], ["gc", "--quiet"],
                        ["restore", "c", "--to", os.path.join(base, "out"), "--quiet"]):
            result = run(*command, expect=harness.FAILED)
            self.assert_one_error_line(result, segment, "Permission denied")
        os.chmod(segment, 0o600)
        run("verify", "--quiet")
        run("fsck")
        run("ingest", source, "--to", "c", "--quiet")
        run("restore", "c", "--to", os.path.join(base, "out"), "--quiet")
        for name in ("one", "two"):
            self.assertTrue(filecmp.cmp(os.path.join(source, name),
                                        os.path.join(base, "out/source", name), shallow=False))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to make a key that another may not read")
    def test_a_key_file_that_may_not_be_read(self):
        vault = self.vault()
        os.chmod(self.path("v"), 0o755)
        result = self.run_as_nobody("ls", "--vault", vault.dir, "--key", vault.key)
        self.assertIn(result.code, (harness.ACCESS, harness.FAILED), str(result))
        self.assert_one_error_line(result)


if __name__ == "__main__":
    harness.main()

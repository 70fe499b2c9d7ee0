#!/usr/bin/env python3
"""What a person sees who sits at a terminal: the progress line, and the passphrase prompt."""

import os
import pty
import re
import select
import signal
import termios
import time

import harness
from harness import HoldfastTest, write_file


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, args):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(args[0], args)

    def _read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            more = os.read(self.fd, 65536)
        except OSError:  # The other side is closed.
            more = b""
        self.seen += more
        return bool(more)

    def wait_for(self, text, seconds=30):
        end = time.monotonic() + seconds
        pattern = text if isinstance(text, re.Pattern) else re.compile(re.escape(text))
        while not pattern.search(self.seen):
            if time.monotonic() > end:
                raise AssertionError(f"no {text!r} within {seconds} s, but {self.seen!r}")
            self._read(0.1)

    def type(self, keys):
        os.write(self.fd, keys)

    @property
    def echo(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def end(self, seconds=60):
        """Exit code, or minus the signal that ended it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                while self._read(0):
                    pass
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"no end within {seconds} s: {self.seen!r}")

    def close(self):
        os.close(self.fd)


class TerminalTest(HoldfastTest):

    def terminal(self, args):
        terminal = Terminal(args)
        self.addCleanup(terminal.close)
        return terminal

    def wrapped_vault(self):
        secret = write_file(self.path("passphrase"), b"correct horse\n")
        return self.vault(init_args=["--passphrase-file", secret])

    def test_passphrase_is_asked_for_and_not_shown(self):
        vault = self.wrapped_vault()
        terminal = self.terminal(vault.args("status"))
        terminal.wait_for(b"Passphrase of ")
        self.assertFalse(terminal.echo)
        terminal.type(b"correct hort\x7fse\n")
        self.assertEqual(harness.OK, terminal.end(), terminal.seen)
        self.assertNotIn(b"horse", terminal.seen)
        self.assertTrue(terminal.echo)

    def test_ctrl_c_at_the_passphrase_leaves_the_terminal_as_it_was(self):
        vault = self.wrapped_vault()
        for typed in (b"\x03", b"corr\x03"):
            terminal = self.terminal(vault.args("status"))
            terminal.wait_for(b"Passphrase of ")
            self.assertFalse(terminal.echo)
            terminal.type(typed)
            self.assertEqual(-signal.SIGINT, terminal.end(10), terminal.seen)
            self.assertTrue(terminal.echo)

    def test_ctrl_c_at_a_new_passphrase_makes_nothing(self):
        home = self.new_dir("home")
        vault = harness.Vault(self, home, make=False)
        terminal = self.terminal([harness.BINARY, "init", vault.dir, "--key", vault.key, "--passphrase"])
        terminal.wait_for(b"New passphrase")
        terminal.type(b"secret\n")
        terminal.wait_for(b"The same again")
        terminal.type(b"\x03")
        self.assertEqual(-signal.SIGINT, terminal.end(10), terminal.seen)
        self.assertTrue(terminal.echo)
        self.assertEqual([], os.listdir(home))

    def test_progress_says_files_bytes_duplicates_and_rate(self):
        source = write_file(self.path("zeros"), b"")
        os.truncate(source, 64 << 30)  # Longer than anyone waits: it is ended when the line is seen.
        vault = self.vault()
        terminal = self.terminal(vault.args("ingest", source, "--to", "c"))
        terminal.wait_for(re.compile("0 files · [\\d.]+ \\w+ of 64.00 GiB · [1-9][\\d.]* \\w+ duplicates · "
                                     "\\d+ % · [\\d.]+ \\w+/s".encode()))
        terminal.type(b"\x03")
        self.assertEqual(-signal.SIGINT, terminal.end(), terminal.seen)


if __name__ == "__main__":
    harness.main()

#!/usr/bin/env python3
"""Reads the #include lines of the tree and fails when a folder looks up or sideways.

The rules are those of docs/architecture.md:
  cli -> gateway -> client -> kernels, common      node -> kernels, common
  coordinator -> common                            kernels -> itself and the standard library only
  node, coordinator and client never include one another; tests and bench may include anything.
Includes are written from the repository root, rooms of a folder (common/io …) and files do not
include one another in a circle, and what a library links agrees with the same table.

Run it alone: tests/layers_test.py [ROOT]
"""

import os
import re
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What each folder may include besides itself.
ALLOWED = {
    "kernels": set(),
    "common": set(),
    "node": {"common"},
    "coordinator": {"common"},
    "client": {"kernels", "common"},
    "cli": {"kernels", "common", "node", "coordinator", "client"},
    "bench": {"kernels", "common", "node", "coordinator", "client", "cli", "tests"},
    "tests": {"kernels", "common", "node", "coordinator", "client", "cli", "bench"},
}
SOURCE_SUFFIXES = (".h", ".cc", ".cu", ".cuh", ".inc")

# Libraries whose headers are written in quotes or in angle brackets, as their own pages do.
THIRD_PARTY = {"absl", "CLI", "nlohmann", "rocksdb", "google", "gtest", "gmock", "benchmark",
               "openssl", "isa-l", "toml++"}
# What kernels may include besides itself: the standard library, POSIX and compiler headers …
STANDARD = re.compile(r"^([a-z_0-9]+|[a-z_0-9]+intrin\.h|(sys|linux|asm)/[a-z_0-9]+\.h|"
                      r"(assert|errno|fcntl|pthread|sched|signal|std[a-z]+|string|time|unistd|cpuid)\.h)$")
# … and, in cuda/ or behind a preprocessor condition, the optional ones.
OPTIONAL = re.compile(r"^(openssl/|cuda|cooperative_groups|cub/|nv)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)")


class Include:
    def __init__(self, path, line, quoted, target, guarded):
        self.path, self.line, self.quoted = path, line, quoted
        self.target, self.guarded = target, guarded

    def where(self):
        return f"{self.path}:{self.line}"


def sources(root):
    for folder in sorted(ALLOWED):
        for directory, names, files in os.walk(os.path.join(root, folder)):
            names.sort()
            for name in sorted(files):
                if name.endswith(SOURCE_SUFFIXES):
                    yield os.path.relpath(os.path.join(directory, name), root)


def includes_of(root, path):
    """The includes of one file; `guarded` when inside an #if (a once-guard does not count)."""
    found = []
    conditions = []
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            condition = CONDITIONAL.match(line)
            if condition:
                word, rest = condition.group(1), condition.group(2).strip()
                if word in ("if", "ifdef", "ifndef"):
                    conditions.append(not (word == "ifndef" and rest.endswith("_H_")))
                elif word == "endif" and conditions:
                    conditions.pop()
                continue
            include = INCLUDE.match(line)
            if include:
                found.append(Include(path, number, include.group(1) == '"', include.group(2),
                                     any(conditions)))
    return found


def find_cycle(graph):
    """A list of nodes that goes round, or None."""
    state = {}
    for start in sorted(graph):
        if start in state:
            continue
        stack = [(start, iter(sorted(graph[start])))]
        state[start] = "open"
        path = [start]
        while stack:
            node, edges = stack[-1]
            for target in edges:
                if state.get(target) == "open":
                    return path[path.index(target):] + [target]
                if target not in state and target in graph:
                    state[target] = "open"
                    path.append(target)
                    stack.append((target, iter(sorted(graph[target]))))
                    break
            else:
                state[node] = "done"
                path.pop()
                stack.pop()
    return None


def check_kernels_system(include):
    if OPTIONAL.match(include.target):
        if include.guarded or "/cuda/" in include.path:
            return None
        return f"<{include.target}> is optional for kernels: put it behind an #if"
    if STANDARD.match(include.target):
        return None
    return f"kernels includes only itself and the standard library, not <{include.target}>"


def check_include(include, root):
    """What is wrong with one include, or None."""
    folder = include.path.split("/")[0]
    top = include.target.split("/")[0]
    if not include.quoted:
        if top in ALLOWED and "/" in include.target and os.path.exists(
                os.path.join(root, include.target)):
            return f"<{include.target}> is ours: write it in quotes"
        if folder == "kernels":
            return check_kernels_system(include)
        return None
    if top in THIRD_PARTY:
        return check_kernels_system(include) if folder == "kernels" else None
    if top not in ALLOWED or "/" not in include.target:
        return f'"{include.target}" is not written from the repository root'
    generated = include.target.endswith(".pb.h")
    file = include.target if not generated else include.target[: -len(".pb.h")] + ".proto"
    if not os.path.exists(os.path.join(root, file)):
        return f'"{include.target}" does not exist from the repository root'
    if top != folder and top not in ALLOWED[folder]:
        allowed = ", ".join(sorted(ALLOWED[folder])) or "nothing else"
        return f"{folder} may include {allowed}, not {top} ({include.target})"
    return None


def check_links(root):
    """Target names in target_link_libraries of each folder's CMakeLists.txt."""
    wrong = []
    for folder in sorted(ALLOWED):
        path = os.path.join(root, folder, "CMakeLists.txt")
        if folder in ("tests", "bench") or not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as lines:
            text = re.sub(r"#.*", "", lines.read())
        for target in re.findall(r"\bholdfast_([a-z]+)\b", text):
            if target in ALLOWED and target != folder and target not in ALLOWED[folder]:
                wrong.append(f"{folder}/CMakeLists.txt: links holdfast_{target}")
    return wrong


def check_tree(root):
    wrong = []
    files, rooms = {}, {}
    for path in sources(root):
        room = os.path.dirname(path)
        files.setdefault(path, set())
        rooms.setdefault(room, set())
        for include in includes_of(root, path):
            problem = check_include(include, root)
            if problem:
                wrong.append(f"{include.where()}: {problem}")
            if include.quoted:
                files[path].add(include.target)
                target_room = os.path.dirname(include.target)
                # A folder holds the interface that its own subfolders implement: one room.
                related = (room + "/").startswith(target_room + "/") or (
                    target_room + "/").startswith(room + "/")
                if not related and room.split("/")[0] not in ("tests", "bench"):
                    rooms[room].add(target_room)
    for kind, graph in (("files", files), ("folders", rooms)):
        cycle = find_cycle(graph)
        if cycle:
            wrong.append(f"{kind} include one another in a circle: " + " -> ".join(cycle))
    return wrong + check_links(root)


class LayersTest(unittest.TestCase):
    root = ROOT

    def test_the_tree_keeps_its_layers(self):
        wrong = check_tree(self.root)
        self.assertFalse(wrong, "\n" + "\n".join(wrong))

    def test_there_is_something_to_check(self):
        self.assertGreater(sum(1 for _ in sources(self.root)), 20)


class CheckerTest(unittest.TestCase):
    """The checker itself: each rule broken once in a small tree."""

    def problems(self, tree):
        with tempfile.TemporaryDirectory() as root:
            for path, text in tree.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as out:
                    out.write(text)
            return check_tree(root)

    def test_a_good_tree(self):
        self.assertEqual([], self.problems({
            "kernels/a.h": '#pragma once\n#include <vector>\n#include <sys/mman.h>\n',
            "kernels/a.cc": '#include "kernels/a.h"\n#if X\n#include <openssl/evp.h>\n#endif\n',
            "common/b.h": "#include <absl/status/status.h>\n#include <rocksdb/db.h>\n",
            "client/c.h": '#include "common/b.h"\n#include "kernels/a.h"\n',
            "client/CMakeLists.txt": "target_link_libraries(holdfast_client holdfast_common)",
        }))

    def assert_one(self, tree, words):
        problems = self.problems(tree)
        self.assertEqual(1, len(problems), problems)
        self.assertIn(words, problems[0])

    def test_sideways(self):
        self.assert_one({"node/a.h": "", "client/b.cc": '#include "node/a.h"\n'}, "client may include")

    def test_upwards(self):
        self.assert_one({"cli/a.h": "", "common/b.cc": '#include "cli/a.h"\n'}, "common may include")

    def test_kernels_alone(self):
        self.assert_one({"common/a.h": "", "kernels/b.cc": '#include "common/a.h"\n'}, "kernels may")
        self.assert_one({"kernels/b.cc": "#include <absl/base/macros.h>\n"}, "kernels includes only")
        self.assert_one({"kernels/b.cc": "#include <xxhash.h>\n"}, "kernels includes only")
        self.assert_one({"kernels/b.cc": "#include <openssl/evp.h>\n"}, "behind an #if")

    def test_from_the_root(self):
        self.assert_one({"node/a.h": "", "node/b.cc": '#include "a.h"\n'}, "repository root")
        self.assert_one({"node/b.cc": '#include "node/none.h"\n'}, "does not exist")

    def test_circles(self):
        self.assert_one({"node/a.h": '#include "node/b.h"\n', "node/b.h": '#include "node/a.h"\n'},
                        "files include one another")
        self.assert_one({"common/x/a.h": '#include "common/y/b.h"\n', "common/y/b.h": "",
                         "common/y/c.h": '#include "common/x/d.h"\n', "common/x/d.h": ""},
                        "folders include one another")

    def test_links(self):
        self.assert_one({"node/CMakeLists.txt": "target_link_libraries(holdfast_node holdfast_client)"},
                        "links holdfast_client")


if __name__ == "__main__":
    if len(sys.argv) > 1 and os.path.isdir(sys.argv[1]):
        LayersTest.root = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)

#!/usr/bin/env python3
"""Looks into the objects of holdfast_kernels: which instructions they use, and what they export.

An instruction set must not leak. Code that every CPU may run holds nothing newer than the target's
baseline; and a file built for one instruction set defines no weak symbol, as the linker may take a
weak symbol's only copy for the whole program, from whichever file.

Usage: isa_test.py <the library or its objects>...   (needs nm, objdump, ar of binutils)
"""

import os
import platform
import re
import subprocess
import sys
import tempfile

# What the files of each instruction set may use. A ymm or zmm register in any other file is a leak.
ISA_FILES = {"avx2.cc.o": "ymm", "avx512.cc.o": "zmm", "sha_ni.cc.o": "xmm"}
REGISTERS = re.compile(r"%(ymm|zmm|k[1-7])\b")
SHA = re.compile(r"\bsha(1|256)(rnds|msg|nexte)")
VEX = re.compile(r"^\s*[0-9a-f]+:\s+(v[a-z]|(mulx|rorx|sarx|shlx|shrx|andn|pdep|pext|movbe)\b)")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def objects_of(paths, folder):
    """Unpacks archives; gives the paths of all objects."""
    objects = []
    for path in paths:
        if not path.endswith(".a"):
            objects.append(path)
            continue
        subprocess.run(["ar", "x", os.path.abspath(path)], check=True, cwd=folder)
        objects += [os.path.join(folder, name) for name in run("ar", "t", path).split()]
    return objects


def weak_symbols(path):
    """Symbols that another object may take: weak, vague-linkage or unique ones that it defines."""
    lines = run("nm", "--defined-only", "-C", path).splitlines()
    return [line for line in lines if re.match(r"[0-9a-f]+ [VWuvw] ", line)]


def check(path):
    """Gives one line for each thing wrong with an object."""
    name = os.path.basename(path)
    code = run("objdump", "-d", "--no-show-raw-insn", path)
    if name in ISA_FILES:
        wrong = [f"{name}: may not define {line}" for line in weak_symbols(path)]
        if name != "avx512.cc.o" and re.search(r"%(zmm|k[1-7])\b", code):
            wrong.append(f"{name}: uses AVX-512")
        if name == "sha_ni.cc.o":
            if not SHA.search(code):
                wrong.append(f"{name}: uses no SHA instruction")
            if any(VEX.match(line) for line in code.splitlines()):
                wrong.append(f"{name}: uses AVX")
        elif f"%{ISA_FILES[name]}" not in code:
            wrong.append(f"{name}: uses no {ISA_FILES[name]} register")
        return wrong
    wrong = []
    for line in code.splitlines():
        if REGISTERS.search(line) or SHA.search(line) or VEX.match(line):
            wrong.append(f"{name}: newer than the baseline: {line.strip()}")
    return wrong


def main():
    if platform.machine() not in ("x86_64", "AMD64"):
        print("SKIPPED: not x86-64")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        objects = objects_of(sys.argv[1:], folder)
        missing = set(ISA_FILES) - {os.path.basename(path) for path in objects}
        wrong = [f"not found: {name}" for name in sorted(missing)]
        for path in objects:
            wrong += check(path)[:5]
    for line in wrong:
        print(line)
    print(f"{len(objects)} objects, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Unfold a .tree file into a directory that can be a sysroot.
usage: make_tree.py FILE.tree DIR

A .tree file, one item a line, `#` a comment:
  DIR/                 the directory that the files below it are in
  name value ...       a file; `\\n` and `\\0` in the value stand for those bytes
  name mode=0400 value the same with a mode
  link PATH -> TARGET  a symbolic link, TARGET as in readlink
  repeat DIR/ 4 7      the files that follow are in DIR with % replaced by 4, ... 7
"""
import os
import sys


def write(root, path, text, mode):
    full = root + path
    os.makedirs(os.path.dirname(full), exist_ok=True)
    data = text.replace("\\n", "\n").replace("\\0", "\0")
    with open(full, "w") as f:
        f.write(data if data.endswith("\0") else data + "\n")
    os.chmod(full, mode)


def make(tree, root):
    dirs = []
    os.makedirs(root, exist_ok=True)
    for number, line in enumerate(open(tree), 1):
        line = line.rstrip("\n")
        if not line or line.startswith("#"):
            continue
        words = line.split(" ")
        if words[0] == "link":
            if words[2] != "->":
                sys.exit(f"{tree}:{number}: link PATH -> TARGET")
            os.makedirs(os.path.dirname(root + words[1]), exist_ok=True)
            os.symlink(words[3], root + words[1])
        elif words[0] == "repeat":
            first, last = int(words[2]), int(words[3])
            dirs = [words[1].replace("%", str(i)) for i in range(first, last + 1)]
        elif line.endswith("/"):
            dirs = [line]
            os.makedirs(root + line, exist_ok=True)
        else:
            mode = 0o644
            name, values = words[0], words[1:]
            if values and values[0].startswith("mode="):
                mode = int(values.pop(0)[5:], 8)
            for d in dirs:
                write(root, d + name, " ".join(values), mode)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2])

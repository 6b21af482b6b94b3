#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# The table of keys in config.c, the shipped file and flamed.conf(5) agree.
import re
import subprocess

from daemonlib import *


def table():
    with open(os.path.join(ROOT, "daemon/config.c")) as f, open(os.path.join(ROOT, "estimator/model.h")) as g:
        quantile = re.search(r"^#define QUANTILE_DEFAULT ([\d.]+)$", g.read(), re.M)[1]
        text = f.read().replace("TEXT_OF(QUANTILE_DEFAULT)", f'"{quantile}"')
    return [(s, k, t, initial) for s, k, t, initial in
            re.findall(r'\{ ?"(\w+)", "(\w+)", CONFIG_(\w+), [^"]*?, (BOARDS_DIR|"[^"]*"),', text)]


def shipped():
    """(section, key) -> (value, commented out, the comment above)"""
    keys, section, comment = {}, "", ""
    with open(os.path.join(ROOT, "etc/flamed.conf")) as f:
        for line in f:
            line = line.strip()
            header = re.fullmatch(r"#?\[(\w+)( \w+)?\]", line)
            pair = re.fullmatch(r"(#?)(\w+) = (.*)", line)
            if header:
                section, comment = header[1], ""
            elif pair:
                keys[section, pair[2]] = (pair[3], pair[1] == "#", comment)
            elif line.startswith("#"):
                comment += " " + line[1:].strip()
            else:
                comment = ""
    return keys


def manual():
    """(section, key) -> the text beside it"""
    keys, section = {}, ""
    with open(os.path.join(ROOT, "man/flamed.conf.5")) as f:
        for line in f:
            if line.startswith(".Ss Section"):
                section = re.match(r"\.Ss Sections? (\w+)", line)[1]
            if line.startswith(".Sh BOARD"):
                break
            if line.startswith(".It Cm "):
                names, _, beside = line[7:].strip().partition(" Pq ")
                for name in names.replace(",", " ").split():
                    keys[section, name] = beside
    return keys


def plain(value):
    return value.strip('"').replace(" ", "")


keys, conf, man = table(), shipped(), manual()
ok(len(keys) > 25, f"the table has {len(keys)} keys")
ok({(s, k) for s, k, _, _ in keys} == set(conf), "the shipped file has every key and no other",
   set(conf) ^ {(s, k) for s, k, _, _ in keys})
ok({(s, k) for s, k, _, _ in keys} == set(man), "flamed.conf(5) has every key and no other",
   set(man) ^ {(s, k) for s, k, _, _ in keys})
for section, key, kind, initial in keys:
    if (section, key) not in conf or (section, key) not in man:
        continue
    value, commented, comment = conf[section, key]
    default = "/etc/flamed/boards.d" if initial == "BOARDS_DIR" else plain(initial)
    beside = man[section, key].split(";")[0]
    if default:
        ok(not commented and plain(value) == default,
           f"[{section}] {key}: the shipped file shows the default {default}", value)
        ok(plain(beside.replace("default ", "")) == default, f"[{section}] {key}: so does flamed.conf(5)", beside)
    else:
        ok(commented, f"[{section}] {key}: not set, so commented out")
    said = re.search(r"([\d.]+(?: \w+)?) to ([\d.]+(?: \w+)?)", man[section, key])
    if said:
        ok(said[0].replace(" ", "") in comment.replace(" ", ""), f"[{section}] {key}: the same range in both",
           (said[0], comment))
d = Daemon(start=False)
p = subprocess.run(d.command("--check-config", "--config", os.path.join(ROOT, "etc/flamed.conf")), capture_output=True,
                   text=True)
ok(p.returncode == 0, "the shipped file is accepted", p.stderr)
uncommented = re.sub(r"(?m)^#(\[model|\w+ = )", r"\1", open(os.path.join(ROOT, "etc/flamed.conf")).read())
with open(d.config, "w") as f:
    f.write(uncommented)
p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
ok(p.returncode == 0, "and with every example taken in", p.stderr)
with open(d.config, "w") as f:
    f.write("[flamed]\ngain_min = 0.01\nquantile = 0.97\nhold_requests = 8\n")
p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
ok(p.returncode == 0 and ":2: gain_min is no longer used" in p.stderr
   and ":4: hold_requests is no longer used" in p.stderr,
   "a file of version 0.1 is accepted, and the keys that are gone are named", p.stderr)

# The range in an error is the one in the manual, and both of its ends are accepted.
for section, key, kind, _ in keys:
    if kind not in ("NUMBER", "COUNT", "DURATION", "FREQUENCY"):
        continue
    header = "[model m]" if section == "model" else f"[{section}]"
    with open(d.config, "w") as f:
        f.write(f"{header}\n{key} = "
                f"{'1000000 h' if kind == 'DURATION' else '900000 GHz' if kind == 'FREQUENCY' else '99999999'}\n")
    p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
    said = re.search(r"from (\S+(?: [a-zA-Z]+)?) to (\S+(?: [a-zA-Z]+)?)", p.stderr)
    good = p.returncode == 2 and f"{d.config}:2:" in p.stderr and said is not None
    ok(good, f"[{section}] {key} out of range: file:line and the range", p.stderr)
    for end in said.groups() if said else ():
        with open(d.config, "w") as f:
            f.write(f"{header}\n{key} = {end}\n")
        p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
        ok(p.returncode == 0 or section == "limits", f"[{section}] {key} = {end} is accepted", p.stderr)
d.end()
done()

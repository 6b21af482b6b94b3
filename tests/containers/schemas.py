# SPDX-License-Identifier: MIT
"""Compose files against the schema that docker-compose ships, Kubernetes resources against the types of an npm package
of its API. Each function returns a list of faults; None where the schema is not available."""
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../vulkan"))
import llamalib  # noqa: E402

COMPOSE = os.path.join(llamalib.TOP, "build/unpacked/usr/lib/python3/dist-packages/compose/config/compose_spec.json")
MODELS = os.path.join(llamalib.MODULES, "kubernetes-models")


def compose_faults(document):
    try:
        import jsonschema
        with open(COMPOSE, encoding="utf-8") as file:
            schema = json.load(file)
    except (ImportError, FileNotFoundError):
        return None
    return [f"{'/'.join(map(str, error.path))}: {error.message}"
            for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


def interface(path):
    """Of a type's file: {field: type}, and {type: file} of its imports."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    body = re.search(r"export interface \w+[^{]*\{\n(.*?)\n\}", text, re.S)
    if not body:
        return None, {}
    fields = dict(re.findall(r'^    "(\w+)"\??: (.*)$', body[1], re.M))
    files = {}
    for name, source in re.findall(r'import \{ (\w+) \} from "(.*?)";', text):
        base = os.path.dirname(path) if source.startswith(".") else llamalib.MODULES
        files[name] = os.path.normpath(os.path.join(base, re.sub(r"\.js$", "", source) + ".d.ts"))
    return fields, files


def strangers(value, path, where):
    """Fields that the type does not have: the schemas let any pass."""
    fields, files = interface(path)
    if fields is None or not isinstance(value, dict):
        return
    for key, part in value.items():
        if key not in fields:
            yield f"{where}: no field {key}"
            continue
        named = re.match(r"(?:Array<)?(\w+)>?;$", fields[key])
        for one in part if isinstance(part, list) else [part]:
            if named and named[1] in files:
                yield from strangers(one, files[named[1]], f"{where}/{key}")


def kubernetes_faults(documents):
    why = llamalib.install()
    if why:
        return None
    out = subprocess.run([llamalib.NODE, os.path.join(HERE, "kubernetes.mjs"), llamalib.MODULES], text=True,
                         input=json.dumps(documents), capture_output=True, timeout=60)
    found = out.stdout.splitlines() + out.stderr.splitlines()
    for document in documents:
        path = os.path.join(MODELS, document["apiVersion"], document["kind"] + ".d.ts")
        found += strangers(document, path, document["kind"])
    return found

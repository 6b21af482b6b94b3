# SPDX-License-Identifier: MIT
"""What is wrong with a Grafana dashboard of Prometheus queries, given the samples that its queries are about."""
import re

VARIABLES = {"$instance": ".*", "$model": ".*", "$__range": "1m", "$__rate_interval": "1m"}
SCRAPED = {"instance", "job"}  # labels that Prometheus adds
COUNTERS = ("_total", "_bucket", "_sum", "_count")


def filled(expression):
    """A query as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def queries(dashboard):
    """(where, expression, legend)"""
    return [(f"{panel['title']} {target['refId']}", target["expr"], target.get("legendFormat", ""))
            for panel in dashboard["panels"] for target in panel["targets"]]


def labels_of(samples):
    """{metric: labels that its samples have}"""
    out = {}
    for sample in samples:
        name, _, labels = sample.partition("{")
        out.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return out


def query_faults(expression, known):
    if "$" in filled(expression):
        yield "a variable that nobody sets"
    names = re.findall(r"flamed_\w+", expression)
    if not names:
        yield "no metric of flamed's"
    for name in names:
        if name not in known:
            yield f"no such metric: {name}"
    about = SCRAPED.union(*(known.get(name, set()) for name in names))
    used = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    used += [label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r"\s*,\s*", group)]
    for label in used:
        if label not in about:
            yield f"no such label: {label}"
    for call, name in re.findall(r"\b(rate|increase)\((flamed_\w+)", expression):
        if not name.endswith(COUNTERS):
            yield f"{call} of {name}, which is no counter"
    if "histogram_quantile" in expression and "le" not in used:
        yield "a quantile without le"


def layout_faults(panels):
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        if at["x"] + at["w"] > 24:
            yield f"{panel['title']}: wider than the page"
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if taken.setdefault(cell, panel["title"]) != panel["title"]:
                yield f"{panel['title']} lies on {taken[cell]}"
                break
        if not panel["fieldConfig"]["defaults"].get("unit") or not panel["targets"]:
            yield f"{panel['title']}: no unit, or nothing asked"
    for key in ("id", "title"):
        if len({panel[key] for panel in panels}) < len(panels):
            yield f"two panels of the same {key}"


def faults(dashboard, samples, maybe=()):
    """One line each. `maybe`: samples that need not be there now."""
    known = labels_of([*samples, *maybe])
    out = list(layout_faults(dashboard["panels"]))
    for where, expression, _ in queries(dashboard):
        out += [f"{where}: {fault}" for fault in query_faults(expression, known)]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    for name, variable in variables.items():
        if variable["type"] == "query":
            asked = variable["query"]["query"]
            metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", asked).groups()
            if label not in known.get(metric, set()) | SCRAPED:
                out.append(f"${name}: {metric} has no label {label}")
    for holder in [*dashboard["panels"], *variables.values()]:
        source = holder.get("datasource", {"uid": "${datasource}"})
        if source["uid"] != "${datasource}" or variables["datasource"]["type"] != "datasource":
            out.append(f"{holder.get('title', holder.get('name'))}: a data source that others do not have")
    return out

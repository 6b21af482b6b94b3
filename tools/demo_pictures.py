# SPDX-License-Identifier: MIT
"""The two pictures of tools/demo, as SVG text."""
import json, math

HEAD = ('<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
        'font-family="Inter, \'Helvetica Neue\', Helvetica, Arial, \'DejaVu Sans\', sans-serif">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n')
# Okabe and Ito's palette, also distinguishable by colour-blind readers; shapes repeat the distinction
STYLE = {"full clocks": ("#d55e00", "square"), "kernel's governor": ("#0072b2", "triangle"), "flamed": ("#009e73",
        "circle")}
# viridis, nine of its stops (matplotlib, CC0)
VIRIDIS = [(68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140), (40, 174, 128), (94, 201, 98),
        (173, 220, 48), (253, 231, 37)]


def text(x, y, words, size=12, colour="#444", anchor="start", more=""):
    words = str(words).replace("&", "&amp;").replace("<", "&lt;")
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{more}>'
            f"{words}</text>\n")


def mark(shape, x, y, colour, title=""):
    title = f"<title>{title}</title>"
    style = f'fill="{colour}" fill-opacity="0.85" stroke="#fff" stroke-width="1.2"'
    if shape == "square":
        return f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" {style}>{title}</rect>\n'
    if shape == "triangle":
        return f'<path d="M{x:.1f} {y - 8:.1f} l8 14 h-16 z" {style}>{title}</path>\n'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" {style}>{title}</circle>\n'


def nice_step(span, steps):
    """A round step (1, 2 or 5 times a power of ten) that divides the span into at most `steps`."""
    power = 10 ** math.floor(math.log10(span / steps))
    return next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= steps)


def power_over_misses(dots):
    """dots: (policy, deadline in words, share missed, watts)."""
    w, h, left, right, top, bottom = 720, 430, 70, 30, 70, 60
    most_missed, most_watts = max(0.05, max(d[2] for d in dots) * 1.1), max(d[3] for d in dots) * 1.12

    def x(share):
        return left + 14 + share / most_missed * (w - left - right - 14)

    def y(watts):
        return h - bottom - watts / most_watts * (h - top - bottom)

    out = [HEAD.format(w=w, h=h), text(left, 32, "Power and missed deadlines: lower and further left is better", 18,
            "#1a1a1a", more=' font-weight="600"')]
    legend = left
    for policy, (colour, shape) in STYLE.items():
        out += [mark(shape, legend + 6, 51, colour), text(legend + 20, 55, policy, 13)]
        legend += 46 + 8 * len(policy)
    out.append(text(w - right, 55, "one mark for each deadline", 12, anchor="end"))
    step = nice_step(most_watts, 6)
    for i in range(int(most_watts / step) + 1):
        out += [f'<line x1="{left}" y1="{y(i * step):.1f}" x2="{w - right}" y2="{y(i * step):.1f}" '
                f'stroke="#e4e4e4"/>\n',
                text(left - 8, y(i * step) + 4, f"{i * step:g}", 12, anchor="end")]
    step = nice_step(most_missed * 100, 6)
    for i in range(int(most_missed * 100 / step) + 1):
        out += [f'<line x1="{x(i * step / 100):.1f}" y1="{h - bottom}" x2="{x(i * step / 100):.1f}" '
                f'y2="{h - bottom + 5}" stroke="#444"/>\n',
                text(x(i * step / 100), h - bottom + 20, f"{i * step:g} %", 12, anchor="middle")]
    out += [f'<path d="M{left} {top - 4} V{h - bottom} H{w - right}" fill="none" stroke="#444"/>\n',
            text((left + w - right) / 2, h - 14, "deadlines missed", 13, "#222", "middle"),
            text(0, 0, "mean power (W)", 13, "#222", "middle",
            f' transform="translate(22 {(top + h - bottom) / 2:.0f}) rotate(-90)"')]
    for policy, deadline, share, watts in dots:
        colour, shape = STYLE[policy]
        out.append(mark(shape, x(share), y(watts), colour,
                f"{policy}, {deadline}: {watts:.2f} W, {share * 100:.1f} % missed"))
    return "".join(out) + "</svg>\n"


def colour_at(level):
    at = min(max(level, 0), 1) * 8
    i = min(int(at), 7)
    return "#%02x%02x%02x" % tuple(round(a + (at - i) * (b - a)) for a, b in zip(VIRIDIS[i], VIRIDIS[i + 1]))


PANELS_MAX = 4  # more memory clocks than that: only those that were used


class Surface:
    """Positions of a surface's cells: one panel for each memory clock, CPU clock upwards, GPU clock to the right."""

    CELL_W, CELL_H, GAP, LEFT, TOP = 17, 10, 22, 70, 96

    def __init__(self, surface, mems):
        self.hz = {c: surface["axes"][c + "_hz"] for c in ("cpu", "gpu", "mem")}
        self.mems = mems
        self.panel_w = self.CELL_W * len(self.hz["gpu"])
        self.panel_h = self.CELL_H * len(self.hz["cpu"])
        self.width = max(self.LEFT + len(mems) * (self.panel_w + self.GAP) + 90, 960)
        self.height = self.TOP + self.panel_h + 50

    def panel(self, mem):
        return self.LEFT + self.mems.index(mem) * (self.panel_w + self.GAP)

    def corner(self, cpu, gpu, mem):
        return (self.panel(mem) + self.hz["gpu"].index(gpu) * self.CELL_W,
                self.TOP + self.panel_h - (self.hz["cpu"].index(cpu) + 1) * self.CELL_H)

    def middle(self, point):
        x, y = self.corner(*point)
        return x + self.CELL_W / 2, y + self.CELL_H / 2


def nearest(axis, hz):
    return min(axis, key=lambda value: abs(value - hz))


def axes(drawn):
    out = []
    for mem in drawn.mems:
        x, bottom = drawn.panel(mem), drawn.TOP + drawn.panel_h
        out.append(text(x, drawn.TOP - 8, f"memory {mem / 1e6:.0f} MHz", 12, "#222"))
        for gpu in drawn.hz["gpu"][::5]:
            out.append(text(x + (drawn.hz["gpu"].index(gpu) + 0.5) * drawn.CELL_W, bottom + 15, f"{gpu / 1e6:.0f}",
                    11, anchor="middle"))
        out.append(text(x + drawn.panel_w / 2, bottom + 32, "GPU clock (MHz)", 12, "#222", "middle"))
    for cpu in drawn.hz["cpu"][::4]:
        out.append(text(drawn.LEFT - 6, drawn.corner(cpu, drawn.hz["gpu"][0], drawn.mems[0])[1] + 9,
                f"{cpu / 1e6:.0f}", 11, anchor="end"))
    out.append(text(0, 0, "CPU clock (MHz)", 12, "#222", "middle",
            f' transform="translate(20 {drawn.TOP + drawn.panel_h / 2:.0f}) rotate(-90)"'))
    return out


def areas(drawn, fills):
    """The cells, those of one colour beside each other as one."""
    out = ['<g shape-rendering="crispEdges">\n']
    for mem, cpu in sorted({place[:2] for place in fills}):
        row = [fills[mem, cpu, gpu] for gpu in drawn.hz["gpu"]]
        first = 0
        for i in range(1, len(row) + 1):
            if i < len(row) and row[i] == row[first]:
                continue
            x, y = drawn.corner(cpu, drawn.hz["gpu"][first], mem)
            out.append(f'<rect x="{x}" y="{y}" width="{drawn.CELL_W * (i - first)}" height="{drawn.CELL_H}" '
                    f'fill="{row[first]}"/>\n')
            first = i
    return out + ["</g>\n"]


def trace(drawn, path):
    """Points in the order in which they were first used, joined; then first and last by name."""
    turns = [p for i, p in enumerate(path) if i == 0 or p != path[i - 1]]
    places = [drawn.middle(p) for p in turns]
    line = " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    out = [f'<path d="M{line}" fill="none" stroke="#fff" stroke-width="4" stroke-opacity="0.8" '
           'stroke-linejoin="round"/>\n',
           f'<path d="M{line}" fill="none" stroke="#d1005b" stroke-width="1.6" stroke-linejoin="round"/>\n']
    for point in dict.fromkeys(path):
        x, y = drawn.middle(point)
        radius = 2.5 + 1.1 * math.sqrt(path.count(point))
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#d1005b" stroke="#fff" '
                f'stroke-width="1.2">'
                   f"<title>{path.count(point)} requests at cpu/gpu/memory "
                   f"{point[0] / 1e6:.0f}/{point[1] / 1e6:.0f}/{point[2] / 1e6:.0f} MHz</title></circle>\n")
    for point, words in ((path[0], "first request"), (path[-1], "last request")):
        x, y = drawn.middle(point)
        anchor, dx = ("end", -12) if x > drawn.width / 2 else ("start", 12)
        out.append(text(x + dx, y + (18 if words.startswith("first") else 4), words, 13, "#111", anchor,
                ' font-weight="600" stroke="#fff" stroke-width="3" paint-order="stroke"'))
    return out


def surface_with_path(surface_json, path, deadline_ms):
    """surface_json: flamectl --json surface; path: (cpu, gpu, mem) in Hz, one for each request in order."""
    surface = json.loads(surface_json)
    hz = {c: surface["axes"][c + "_hz"] for c in ("cpu", "gpu", "mem")}
    path = [tuple(nearest(hz[c], value) for c, value in zip(("cpu", "gpu", "mem"), point)) for point in path]
    used = {point[2] for point in path}
    drawn = Surface(surface, hz["mem"] if len(hz["mem"]) <= PANELS_MAX else sorted(used))
    cells = [c for c in surface["cells"] if c["mem_hz"] in drawn.mems]
    low, high = min(c["latency_ns"] for c in cells), deadline_ms * 1e6
    out = [HEAD.format(w=drawn.width, h=drawn.height),
           text(drawn.LEFT, 32, "Predicted latency of every operating point, and the path that flamed took", 18,
           "#1a1a1a", more=' font-weight="600"'),
           text(drawn.LEFT, 54, f"an emulated board, one frame every {deadline_ms} ms; grey: the upper bound "
           f"exceeds that deadline; "
                f"larger dots: more of the {len(path)} requests ran there", 12)]
    fills = {}
    for cell in cells:
        slower = cell["latency_ns"] > low and high > low
        level = math.log(cell["latency_ns"] / low) / math.log(high / low) if slower else 0
        fill = colour_at(level) if cell["bound_ns"] <= high else "#e3e4e7"
        fills[cell["mem_hz"], cell["cpu_hz"], cell["gpu_hz"]] = fill
    out += areas(drawn, fills) + axes(drawn) + trace(drawn, path)
    x, y, height = drawn.width - 80, drawn.TOP, 150
    for i in range(30):
        out.append(f'<rect x="{x}" y="{y + height - (i + 1) * 5}" width="14" height="5" fill="{colour_at(i / 29)}"/>\n')
    out += [text(x + 20, y + height, f"{low / 1e6:.0f} ms", 11), text(x + 20, y + 9, f"{high / 1e6:.0f} ms", 11)]
    return "".join(out) + "</svg>\n"

# Shown by no page: what each page of this folder runs first, when the site is built.
import base64
import io
import pathlib

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("agg")
# Where pages write their files.
pathlib.Path("build/docs").mkdir(parents=True, exist_ok=True)
plt.rcParams.update(plt.rcParamsDefault | {"svg.hashsalt": "funcgrad", "figure.dpi": 72})


def show(description, figure=None):
    """Puts a figure, by default pyplot's current one, into the page."""
    buffer, figure = io.BytesIO(), figure or plt.gcf()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close("all")
    data = base64.b64encode(buffer.getvalue()).decode()
    # `print` is the page's, which is another for each block.
    print(f'<img alt="{description}" src="data:image/svg+xml;base64,{data}">')


def draw_graph(graph, names):
    """A box for each equation, behind those whose results it takes; inputs before their use."""
    depth, label = {}, {}
    for var, name in zip(graph.inputs, names, strict=True):
        depth[var], label[var] = 0, name
    for eqn in graph.eqns:
        depth[eqn.outs[0]] = 1 + max(depth.get(var, 0) for var in eqn.ins)
        label[eqn.outs[0]] = eqn.prim.name
    for var in graph.inputs:
        depth[var] = min(depth[eqn.outs[0]] for eqn in graph.eqns if var in eqn.ins) - 1
    columns = [
        sorted((v for v in depth if depth[v] == d), key=graph.inputs.__contains__)
        for d in range(1 + max(depth.values()))
    ]
    place = {v: (d, -i + len(c) / 2) for d, c in enumerate(columns) for i, v in enumerate(c)}
    plt.figure(figsize=(1.5 * len(columns), 0.75 * max(map(len, columns)) + 0.4))
    for eqn in graph.eqns:
        for var in set(eqn.ins) & set(place):
            arrow = {"arrowstyle": "->", "shrinkA": 28, "shrinkB": 28, "color": "0.5"}
            plt.annotate("", place[eqn.outs[0]], place[var], arrowprops=arrow)
    for var, (x, y) in place.items():
        box = {"boxstyle": "round", "fc": "honeydew" if var in graph.inputs else "aliceblue"}
        text = f"{label[var]}\n{var.aval}"
        plt.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box)
    plt.xlim(-0.5, len(columns) - 0.5)
    plt.ylim(0.2 - max(map(len, columns)) / 2, 0.8 + max(map(len, columns)) / 2)
    plt.axis("off")

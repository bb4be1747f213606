#!/usr/bin/env python3
"""What the pages show of the bench: samples as JSON (docs/performance.json, docs/scale.json) go in, tables between marks and plots come out.

  bench/pages.py          says which pages are not what the samples say, and fails
  bench/pages.py --write  makes them so
"""
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import curves  # noqa: E402
import paper  # noqa: E402
import report  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIGURES, SCALE = "docs/performance.json", "docs/scale.json"
HEADLINES = ("post400", "fanout20", "both", "visible200", "index", "products", "product400", "gateway_memory", "worker_memory", "backlog")


def between(page, name, text):
    """The page with that text between the two marks of this name."""
    new, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", lambda match: f"{match[1]}{text}\n{match[2]}", page, flags=re.S)
    if count != 1:
        raise ValueError(f"there is not one place for the table {name} (<!-- {name} --> … <!-- end of {name} -->)")
    return new


def load(root, path):
    return json.loads((root / path).read_text()) if (root / path).exists() else None


def about_text(about):
    return (f"Measured {about['date']} on {about['cores']} cores ({about['processor']}), servers and load on the same ones; rounds: {about['rounds']}; commit {about['version']}."
            + (" A short run: an order of magnitude, without a spread." if about["rounds"] == 1 else ""))


def figures_text(found):
    if found is None:
        return curves.NONE
    taken = report.taken_table(found["figures"])
    return "\n".join([about_text(found["about"]), "", "![figures](performance.svg)", "", report.markdown(report.figures_table(found["figures"])), "",
                      *([report.markdown(taken), ""] if len(taken) > 1 else []),
                      *(found[key].replace("\n", "  \n").rstrip() + "\n" for key in ("counted", "against") if found.get(key))]).rstrip() + "\n"


def headline_text(found):
    if found is None:
        return curves.NONE
    return about_text(found["about"]) + "\n\n" + report.headlines([row for row in found["figures"] if row["name"] in HEADLINES])


def scale_text(found, name):
    run = (found or {}).get("runs", {}).get(name)
    if run is None:
        return curves.NONE
    about = run["about"]
    return (f"{about['date']}, {about['cores']} cores ({about['processor']}), commit {about['version']}, {about['minutes']} minutes: `./dev bench --{name} {run['size']}`\n\n"
            + curves.markdown(run["columns"], run["points"]))


def scale_plot(found):
    panels = []
    for run in found["runs"].values():
        x = next(iter(run["columns"]))
        for title, series in run["curves"]:
            panels.append((title, run["columns"][x], [point[x] for point in run["points"]],
                           [(legend, [point.get(key) for point in run["points"]]) for key, legend in series.items()], run["is_log"]))
    return curves.plot(panels)


def pages(root=ROOT):
    """Path -> text, of every page and plot that shows figures."""
    figures, scale = load(root, FIGURES), load(root, SCALE)
    page = (root / "docs/scale.md").read_text()
    for name in re.findall(r"<!-- (?!end of )(\w+) -->", page):
        page = between(page, name, paper.table((scale or {}).get("runs", {})) if name == "paper" else scale_text(scale, name))
    made = {"README.md": between((root / "README.md").read_text(), "bench", headline_text(figures)),
            "docs/performance.md": between((root / "docs/performance.md").read_text(), "bench", figures_text(figures)), "docs/scale.md": page}
    if figures:
        made["docs/performance.svg"] = report.plot([row for row in figures["figures"] if row["ours"]["median"]])
    if scale:
        made["docs/scale.svg"] = scale_plot(scale)
    return made


def stale(root=ROOT):
    return [path for path, text in pages(root).items() if not (root / path).exists() or (root / path).read_text() != text]


def write(root=ROOT):
    for path, text in pages(root).items():
        (root / path).write_text(text)


def main():
    if sys.argv[1:] == ["--write"]:
        write()
    wrong = stale()
    for path in wrong:
        print(f"{path} is not what the samples say: bench/pages.py --write", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

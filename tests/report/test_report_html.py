import re
from html.parser import HTMLParser

import pytest
from test_report_tables import fill
from test_report_tables import grid as markdown_grid

from ddlight.report import collect, compare, html, markdown

VOID = {"meta", "br"}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path id="gain-1" d="M0 0"/></svg>'


class Page(HTMLParser):
    """Elements in order: (tag, attributes, text inside). Fails where a tag does not close."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


def page(study, cells=None, figures=()):
    frame = collect([study.root])
    text = html(compare(frame) if cells is None else cells, frame, dict(figures))
    return text, Page(text)


def tables(text):
    """Every table: heads and rows, each a list of (attributes, text)."""
    for part in re.findall(r"<table>.*?</table>", text, re.DOTALL):
        head, body = part.split("</thead>")
        heads = [(a, t) for a, t in Page(f"{head}</thead></table>").all("th") if "data-column" in a]
        rows = [Page(row) for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)]
        yield heads, [row.all("th") + row.all("td") for row in rows]


def test_nothing_is_fetched(study):
    _, found = page(study, fill(study), {"Gain": SVG})
    targets = [
        attributes[name]
        for _, attributes, _ in found.elements
        for name in ("src", "href", "srcset", "action")
        if name in attributes
    ]
    ids = [attributes["id"] for _, attributes, _ in found.elements if "id" in attributes]
    assert targets and all(target.startswith("#") and target[1:] in ids for target in targets)
    assert len(ids) == len(set(ids))
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, *_ in found.elements}
    style, script = found.all("style")[0][1], found.all("script")[0][1]
    assert "url(" not in style and "@import" not in style and "://" not in style + script
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|import\b|sendBeacon", script)
    policy = next(a["content"] for a, _ in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "http" not in policy


def test_same_cells_and_marks_as_markdown(study):
    cells = fill(study)
    text, _ = page(study, cells)
    heads, rows = next(iter(tables(text)))
    wanted = markdown_grid(markdown(cells))
    labels = [head.removesuffix("↕").strip() for _, head in heads]
    assert labels == ["method", "ipc 10", "ipc 50", "ipc 10"]
    assert [entry for row in rows for _, entry in row[1:]] == [cell.replace("**", "") for cell in wanted.values()]
    assert text.count("<strong>66.2 ± 0.2 (5)</strong> †") == 1
    assert ">failed</td>" in text
    groups = [(a["colspan"], t) for a, t in Page(text).all("th") if a.get("scope") == "colgroup"][:2]
    assert groups == [("2", "HardLabel"), ("1", "SoftLabel")]


def test_numbers_sort_as_numbers(study):
    study.add("A", 9.5, set__bytes_labels=10_000)
    study.add("B", 10.25, set__bytes_labels=9_000)
    study.fail({"dataset": "Digits", "method": "C", "ipc": 10, "regime": "HardLabel", "student": "ConvNet"})
    text, found = page(study)
    accuracies, costs, *_ = tables(text)
    assert [float(a["data-value"]) for a, _ in (row[1] for row in accuracies[1][:2])] == [9.5, 10.25]
    assert accuracies[1][2][1] == ({"class": "number", "data-value": ""}, "failed")
    assert [float(row[4][0]["data-value"]) for row in costs[1]] == [10_000, 9_000]
    assert "data-value" not in costs[1][0][1][0]
    for heads, rows in (accuracies, costs):
        assert [int(a["data-column"]) for a, _ in heads] == list(range(len(rows[0])))
    sortable = sum("data-column" in a for a, _ in found.all("th"))
    assert len(found.all("button")) == sortable > 0


def test_what_failed_and_what_is_damaged(study):
    cells = fill(study)
    text, found = page(study, cells)
    assert [t for _, t in found.all("h2")][2:4] == ["Failed runs: 3", "Files that could not be read: 1"]
    assert found.all("p")[0][1].startswith("49 runs done, 3 failed, 1 unreadable.")
    lost, damaged = list(tables(text))[5:7]
    assert [entry for _, entry in lost[1][1]] == [
        "part1/run0052/failed.json",
        "Two, Digits, ConvNet, HardLabel, ipc 10",
        "RuntimeError: out of memory",
    ]
    assert damaged[1][0][0][1] == "part2/run0053/result.json"
    assert str(study.root.resolve()) not in text


def test_runs_lead_to_what_was_asked(study):
    study.sets("Random", [60.0, 61.0])
    study.add("A", 70.125, set_seed=3, seed=4, recipe={"lr": 0.5}, set__args={"keep": "easy"})
    study.fail("cell 7")
    text, found = page(study)
    heads, rows = list(tables(text))[-2]
    names = [head.strip() for _, head in heads]
    runs = {(run := dict(zip(names, (entry for _, entry in row), strict=True)))["run"]: run for row in rows}
    a = runs["part0/run0003"]
    assert [a[name] for name in ("method", "ipc", "set seed", "seed", "test accuracy")] == [
        "A",
        "10",
        "3",
        "4",
        "70.12",
    ]
    assert runs["part1/run0001"]["asked"] == runs["part2/run0002"]["asked"] != a["asked"]
    asked = {attributes["id"]: content for attributes, content in found.all("details")}
    assert len(asked) == 2
    content = asked[a["asked"].replace(" ", "-")]
    assert "A, HardLabel, ht_small_hard, 6 full epochs" in content
    assert '"lr": 0.5' in content and '"keep": "easy"' in content


def test_where_and_with_what(study):
    machine = {"device": "NVIDIA H100", "ranks": 2, "nodes": 1, "precision": "bf16-mixed"}
    study.sets("Random", [60.0, 61.0])
    study.add("A", 70.0, machine=machine)
    heads, rows = list(tables(page(study)[0]))[-1]
    assert [head.strip() for _, head in heads][:5] == ["device", "ranks", "nodes", "precision", "ddlight"]
    assert [[row[0][1], row[-1][1]] for row in rows] == [["NVIDIA H100", "1"], ["cpu", "2"]]


def test_figures_are_inline(study):
    study.add("A", 60.0)
    text, found = page(study, figures={"Gain <b> by ipc": SVG})
    assert SVG in text
    assert [t for _, t in found.all("figcaption")] == ["Gain <b> by ipc"]
    assert "<figure" not in page(study)[0]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "a & b"])
def test_text_of_a_setting_stays_text(study, name):
    for index, value in enumerate((name, "other")):
        study.add("A", 60.0 + index, set__args={"name": value})
    study.fail(name, name)
    _, found = page(study)
    assert f"A (name={name})" in [t for _, t in found.all("th")]
    assert len(found.all("script")) == 1 and not found.all("img")
    assert name in [t for _, t in found.all("td")]


def test_a_study_that_failed_altogether(study):
    study.fail({"dataset": "Digits", "method": "A", "ipc": 10, "regime": "HardLabel", "student": "ConvNet"})
    text, found = page(study)
    assert found.all("p")[0][1].startswith("1 failed.")
    assert ">failed</td>" in text and "Environment" not in text

import re
import shutil
import subprocess

import pytest
from test_report_tables import fill
from test_report_tables import grid as markdown_grid

from ddlight.report import collect, compare, latex, markdown
from ddlight.report.latex import PAGE, escaped

KERNEL = """begin end centering footnotesize setlength tabcolsep caption multicolumn textbf texttt medskip raggedright
    linewidth par paragraph item S P pm dagger ddagger textbackslash textasciicircum textasciitilde textless textgreater
    textbar textendash textemdash"""
BOOKTABS = "toprule midrule cmidrule bottomrule"
PRINTED = {r"$\pm$": "±", r"$-$": "−", r"$\dagger$": "†", r"$\ddagger$": "‡", r"\S{}": "§", r"\P{}": "¶"}
PRINTED |= {r"\textendash{}": "–", r"\textemdash{}": "—", "-{}-": "--", r"\_": "_"}


def tables(text):
    """Lines of every tabular, without its rules."""
    bodies = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    rule = re.compile(r"^(\\(top|mid|bottom)rule|(\\cmidrule\(lr\)\{\d+-\d+\})+)$")
    return [(spec, [line for line in body.splitlines() if not rule.match(line)]) for spec, body in bodies]


def split(line):
    assert line.endswith(r" \\")
    return re.split(r"(?<!\\) ?& ?", line.removesuffix(r" \\"))


def shown(text):
    """What a reader sees, as Markdown writes it."""
    for tex, sign in PRINTED.items():
        text = text.replace(tex, sign)
    return re.sub(r"\\textbf\{(.*?)\}", r"**\1**", text)


def balanced(text):
    """Whether braces and environments close in order, and every command is the kernel's or booktabs'."""
    assert set(re.findall(r"\\([A-Za-z]+)", re.sub(r"(?m)^%.*$", "", text))) <= {*KERNEL.split(), *BOOKTABS.split()}
    depth = 0
    for sign in re.sub(r"\\[{}\\$&#%_]", "", text):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    stack = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    return depth == 0 and not stack


def test_same_cells_and_marks_as_markdown(study):
    cells = fill(study)
    _, lines = tables(latex(cells))[0]
    groups, heads, *rows = map(split, lines)
    spans = [re.fullmatch(r"\\multicolumn\{(\d)\}\{[lc]\}\{(.*)\}", group).groups() for group in groups]
    titles = [
        f"{group} {head}"
        for (width, group), start in zip(spans, (0, 1, 3), strict=True)
        for head in heads[start : start + int(width)]
    ]
    found = {
        (shown(row[0]), title): shown(cell) for row in rows for title, cell in zip(titles[1:], row[1:], strict=True)
    }
    assert found == markdown_grid(markdown(cells))
    assert found["Better", "HardLabel ipc 10"] == "**66.2 ± 0.2 (5)** †"
    assert found["Lost", "HardLabel ipc 10"] == "failed"


def test_every_table_is_there_and_whole(study):
    text = latex(fill(study))
    assert balanced(text)
    captions = re.findall(r"\\caption\{(.*)\}\n", text)
    starts = ["Digits, ConvNet(depth=3, width=8). Test", "Digits, ConvNet(depth=3, width=8). Cost."]
    starts += ["Digits, ConvNet(depth=3, width=8). DD-Ranking's measures.", "Digits, MLP. Test", "Digits, MLP. Cost."]
    assert [caption.startswith(start) for caption, start in zip(captions, starts, strict=True)] == [True] * 5
    for spec, lines in tables(text):
        for line in lines:
            widths = [int(width) for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert (sum(widths) if widths else len(split(line))) == len(spec)
    assert r"\paragraph{Failed runs: 3}" in text
    assert r"\item \texttt{part2/run0053/result.json}: half written or not JSON" in text
    assert "adjusted p \\textless{} 0.05" in text
    assert r"\textbf{Bold}: highest mean of its column" in text


def test_a_long_table_is_continued(study):
    for number in range(PAGE + 2):
        study.add(f"M{number:02d}", 60.0)
    text = latex(compare(collect([study.root])))
    assert [len(lines) - 2 for _, lines in tables(text)] == [PAGE, 2, PAGE, 2]
    assert len(re.findall(r"\\caption\{.*\(continued\)", text)) == 2
    assert text.count("significantly above") == 1


NASTY = r"a_b%c&d#e{f}g\h^i~j$k<l>|m --n `o'"


def test_any_text_is_escaped(study):
    assert escaped(NASTY) == (
        r"a\_b\%c\&d\#e\{f\}g\textbackslash{}h\textasciicircum{}i\textasciitilde{}j\$k\textless{}l\textgreater{}"
        r"\textbar{}m -{}-n `o'"
    )
    assert escaped("[1] *x\n y") == "{[}1] {*}x y"
    for index, name in enumerate((NASTY, "[x\ny]")):
        study.add("A", 60.0 + index, set__args={"name": name})
    study.fail("[" + NASTY, NASTY)
    text = latex(compare(collect([study.root])))
    assert balanced(text)
    assert rf"A (name={escaped(NASTY)}) & 60.0" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_it_compiles(study, tmp_path):
    study.add("A", 60.0, set__args={"name": NASTY})
    study.fail("[" + NASTY, NASTY)
    (tmp_path / "report.tex").write_text(latex(fill(study)))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{report}\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]

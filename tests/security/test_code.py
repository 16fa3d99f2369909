"""Rules of the code itself that no single run would show broken."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("sql", "features", "models", "flows")
FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
#: Modules that run what they read, and what Prefect shows as Markdown.
NEVER_IMPORTED = {
    "pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "jinja2", "prefect.artifacts",
}  # fmt: skip
#: Calls that run what they read, by their last names; ``torch.load`` is one of them.
NEVER_CALLED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save",
    "torch.hub.load", "np.load", "numpy.load", "pl.DataFrame.deserialize", "pl.LazyFrame.deserialize",
    "pl.Expr.deserialize", "create_markdown_artifact", "create_table_artifact", "create_link_artifact",
}  # fmt: skip


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(text: str) -> list[str]:
    tree = ast.parse(text)
    names = [name for name in imported(tree) if NEVER_IMPORTED & {name, name.partition(".")[0]}]
    calls = list(called(tree))
    names += [name for name, _ in calls if name in NEVER_CALLED or name.endswith(".deserialize")]
    for name, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if given.get("shell") not in (None, "False") or given.get("allow_pickle") not in (None, "False"):
            names.append(f"{name}(shell or allow_pickle)")
        if name in ("task", "flow") and given.get("persist_result") != "False" and None not in given:
            names.append(f"@{name} that may persist its result")
    return names


def test_nothing_runs_what_it_reads_and_nothing_makes_markdown() -> None:
    found = {str(file.relative_to(ROOT)): faults(file.read_text("utf-8")) for file in FILES}
    assert len(found) > 200
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from cloudpickle import loads", "import yaml.loader",
        "from prefect import artifacts",
        "import torch; torch.load('x')", "eval('1')", "import subprocess; subprocess.run('x', shell=True)",
        "np.load('x', allow_pickle=True)", "expr.meta.deserialize(x)", "@task(name='x')\ndef f(): ...",
        "@flow(name='x', persist_result=True)\ndef f(): ...",
    ],
)  # fmt: skip
def test_the_rule_finds_what_it_is_there_for(text: str) -> None:
    assert len(faults(text)) >= 1


def test_no_page_is_made_and_so_none_needs_escaping() -> None:
    """The first file that writes HTML takes a template with autoescape, or ``html.escape``, and a test."""
    for file in FILES:
        text = file.read_text("utf-8").lower()
        assert not [tag for tag in ("<html", "<body", "<script", "<td>", "text/html", "</") if tag in text], (
            file
        )


def test_ruff_holds_the_rules_of_bandit() -> None:
    """Rules S of ruff; those that are left out say why."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("S") and rule[1:].isdigit()} == {
        "S603",
        "S607",
    }
    assert not [
        rule for rules in lint["per-file-ignores"].values() for rule in rules if rule in ("S301", "S307")
    ]


def test_every_query_that_is_put_together_says_why_it_may_be() -> None:
    """Each carries ``noqa: S608``; their parts are names of declared tables and columns, never values."""
    found = {
        str(file.relative_to(ROOT)): text.count("noqa: S608")
        for file in FILES
        if "noqa: S608" in (text := file.read_text("utf-8"))
    }
    assert sum(found.values()) <= 8, "bind the value instead, or raise this number with a reason"

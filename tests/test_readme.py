"""The commands that the documents show: each one, and each of its options, exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from mitosight.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
SHELLS = ("", "sh", "bash", "console", "shell")


def shell_lines(text: str) -> list[str]:
    """Lines of the fenced shell blocks, those that end in a backslash joined with the next."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    joined = "\n".join(block for language, block in blocks if language in SHELLS).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in joined.splitlines()]


def commands(page: Path) -> list[str]:
    return [line for line in shell_lines(page.read_text(encoding="utf-8")) if re.match(r"mitosight(\s|$)", line)]


def parse(line: str) -> None:
    """Parses a command line without running it; raises where a command, option or value is not accepted."""
    group: Any = typer.main.get_command(app)
    name, *arguments = shlex.split(line, comments=True)[1:]
    if name in ("--help", "--version"):
        return
    assert name in group.commands, f"no command {name!r}"
    command = group.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.split("=")[0] for word in arguments if word.startswith("--")} - {"--help"}
    assert options <= known, f"{name} has no option {sorted(options - known)}"
    if "--help" not in arguments:
        command.make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_with_their_options(page: Path) -> None:
    for line in commands(page):
        parse(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_each_picture_of_the_documents_has_the_script_that_draws_it() -> None:
    pictures = sorted((ROOT / "docs" / "figures").glob("*.png"))
    assert len(pictures) > 5 and [p.name for p in pictures if not p.with_suffix(".py").is_file()] == []


def test_the_readme_shows_the_commands() -> None:
    shown = {shlex.split(line)[1] for line in commands(ROOT / "README.md")}
    assert {"train", "detect", "evaluate", "convert", "info", "phantom", "methods"} <= shown


@pytest.mark.parametrize("line", ["mitosight find x", "mitosight info x --bach 3", "mitosight pair x"])
def test_a_wrong_command_would_be_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"no command|no option|Missing parameter"):
        parse(line)


def test_the_first_command_stands_before_line_25() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines, start=1) if line.startswith("```"))
    assert first < 25
    assert lines[first] == "make demo"


def test_make_has_the_targets_that_the_readme_names() -> None:
    named = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "test"} <= named
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert named <= set(rules)

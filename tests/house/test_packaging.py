"""What a newcomer meets first is true: the locks cover pyproject.toml, the commands in the texts exist."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETS = {"web": ["web"], "ml": ["web", "ml"], "dev": ["web", "ml", "dev"]}
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def pins(name: str) -> dict[str, str]:
    """Version by package, of one lock file, which holds nothing but plain pins: no index, no wheel folder, no build."""
    lines = [line for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines() if line[0] != "#"]
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line) for line in lines]
    assert all(pairs), f"not a plain pin: {[line for line, pair in zip(lines, pairs, strict=True) if not pair]}"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs if pair}


@pytest.mark.parametrize("name", SETS)
def test_a_lock_satisfies_pyproject(name: str) -> None:
    wanted = PROJECT["dependencies"] + [
        line for extra in SETS[name] for line in PROJECT["optional-dependencies"][extra]
    ]
    pinned = pins(name)
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements/{name}.txt: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


def test_each_lock_holds_the_smaller_one_at_the_same_versions() -> None:
    assert pins("web").items() <= pins("ml").items() <= pins("dev").items()


def test_the_web_image_goes_without_torch() -> None:
    assert not {"torch", "transformers"} & pins("web").keys()


def test_npm_pins_what_package_json_asks_for() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all("integrity" in entry and "resolved" not in entry for name, entry in packages.items() if name)


def test_the_changelog_starts_with_the_version_of_the_project() -> None:
    released = re.search(r"^## (?:\[)?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released is not None
    assert released[1] == PROJECT["version"]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_named_in_the_texts_exist(text: Path) -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", text.read_text(), re.DOTALL))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= targets
    commands = {path.stem for path in (ROOT / "annotator" / "management" / "commands").glob("[a-z]*.py")}
    builtin = {"migrate", "check", "makemigrations", "collectstatic", "createsuperuser", "shell", "help"}
    assert set(re.findall(r"manage\.py ([a-z_]+)", code)) <= commands | builtin


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_linked_in_the_texts_exist(text: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text.read_text())
    assert [link for link in links if not (text.parent / link).exists()] == []

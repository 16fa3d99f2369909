"""The lock file: exact, complete, within the bounds of pyproject.toml, under licences that let us use it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    line for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines() if line and line[0] != "#"
]
LOCK = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
#: Licences that ask nothing of who uses us but that they be named; LGPL and MPL bind changes of the library.
FREE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|0BSD|MPL|Mozilla Public|LGPL|Unlicense|HPND|CC0"
    r"|Zlib|Public Domain|BlueOak)",
    re.IGNORECASE,
)
#: What the metadata does not say, or offers a choice of.
READ_BY_HAND = {
    "dataframely": "BSD 3-Clause, in its LICENSE",
    "text-unidecode": "Artistic License or GPL, at the user's choice: the first",
}


def test_every_line_of_the_lock_is_a_name_and_one_version() -> None:
    """No URL, no other index, no option, no range: what is installed is what was looked at."""
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line), line
    assert len(LOCK) == len(LINES)


def test_what_we_declare_is_bounded_and_locked_within_its_bounds() -> None:
    wanted = DECLARED["dependencies"] + DECLARED["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        limits = {part.operator for part in requirement.specifier}
        assert limits & {"<", "=="}, f"{requirement} has no upper bound"
        assert requirement.url is None
        assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)]), requirement


def installed() -> dict[str, Distribution]:
    return {canonicalize_name(one.metadata["Name"]): one for one in distributions()}


def test_the_environment_is_the_lock_and_the_lock_is_whole() -> None:
    """What ``pip check`` asks, of the locked versions: every need of every package is locked and met."""
    found = installed()
    for name, version in LOCK.items():
        if name in found:  # packages of other platforms are locked too
            assert found[name].version.partition("+")[0] == version, f"{name}: make setup"
    for name in LOCK.keys() & found.keys():
        for need in map(Requirement, found[name].requires or ()):
            key = canonicalize_name(need.name)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                if key not in found and name == "torch":
                    continue  # a build for another device; the lock pins no build
                assert key in LOCK, f"{name} needs {need}, which is not locked"
                assert need.specifier.contains(LOCK[key], prereleases=True), f"{name} needs {need}"


def test_every_licence_lets_us_use_it() -> None:
    for name in (LOCK.keys() & installed().keys()) - READ_BY_HAND.keys():
        told = distribution(name).metadata
        said = [told.get("License-Expression") or "", (told.get("License") or "")[:200]]
        said += [line for line in told.get_all("Classifier") or () if line.startswith("License")]
        text = " ".join(said)
        assert FREE.search(text), f"{name}: {text!r}"
        assert not re.search(r"\bA?GPL", re.sub(r"LGPL\S*", "", text)), f"{name}: {text!r}"

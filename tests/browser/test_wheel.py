"""What is installed elsewhere: the whole package with its page, and nothing that was only needed to build it."""

from __future__ import annotations

import zipfile
from pathlib import Path

TOP = Path(__file__).parent.parent.parent


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = TOP / "src"
    package = source / "persona_steering"
    expected = {path.relative_to(source).as_posix() for path in package.rglob("*") if path.is_file()}
    assert inside == {name for name in expected if "__pycache__" not in name}


def test_the_wheel_holds_the_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    static = "persona_steering/server/static"
    assert {f"{static}/index.html", f"{static}/icon.svg", f"{static}/assets/index.js"} <= inside

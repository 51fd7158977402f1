"""`anechoic init`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from anechoic import exits
from anechoic.config import FILE
from chaos.words import unknown

LANGUAGES = {"python": ("coordinator.py.txt", "coordinator.py", "python3 coordinator.py"),
             "node": ("coordinator.mjs", "coordinator.mjs", "node coordinator.mjs")}
"""The template, the file that it becomes, and the command that starts it."""


def run(*, language: str | None, force: bool) -> None:
    """Write both files, or none, and say what is next."""
    language = language or ("node" if Path("package.json").exists() else "python")
    if language not in LANGUAGES:
        exits.invalid(unknown("--language", language, LANGUAGES))
    template, name, command = LANGUAGES[language]
    files = {FILE: text("anechoic.toml").replace("@COMMAND@", command), name: text(template)}
    there = [file for file in files if Path(file).exists()]
    if there and not force:
        exits.invalid(f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} there already; --force overwrites")
    for file, content in files.items():
        try:
            Path(file).write_text(content, encoding="utf-8")
        except OSError as error:
            exits.invalid(f"{file} cannot be written: {error}")
        print(f"wrote {file}")
    print(
        "next:\n"
        "  anechoic gate --plan none     # it passes, as long as nothing breaks\n"
        "  anechoic gate                 # and this is what it does not survive"
    )


def text(name: str) -> str:
    """A template."""
    return resources.files("anechoic").joinpath("templates", name).read_text(encoding="utf-8")

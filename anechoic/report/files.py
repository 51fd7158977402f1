"""Where reports go: files in the report directory, files that were asked for, and the pages and annotations of a CI job."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anechoic.report.annotations import commands
from anechoic.report.html import to_html
from anechoic.report.junit import to_xml
from anechoic.report.record import Record, refused
from anechoic.report.summary import to_markdown
from fakes.whole import write_whole

JUNIT, PAGE = "junit.xml", "report.html"


@dataclasses.dataclass(frozen=True, slots=True)
class Reports:
    """What is written at the end of a run. `folder` gets one file of each kind.

    On GitHub Actions the summary is added to the job's summary page too, and the annotations are printed.
    """

    folder: Path | None = None
    junit: Path | None = None
    summary: Path | None = None

    def write(self, record: Record) -> None:
        """Write all of it. Raises OSError."""
        self.keep(record)
        page = os.environ.get("GITHUB_STEP_SUMMARY")
        if page:
            with open(page, "a", encoding="utf-8") as out:
                out.write(to_markdown(record))
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for command in commands(record):
                print(command, flush=True)

    def keep(self, record: Record) -> None:
        """Write the files alone. Raises OSError."""
        xml = to_xml(record)
        if self.folder is not None:
            write_whole(self.folder / JUNIT, xml)
            write_whole(self.folder / PAGE, to_html(record))
        if self.junit is not None:
            write_whole(self.junit, xml)
        if self.summary is not None:
            write_whole(self.summary, to_markdown(record))

    def refused(self, error: object, about: Mapping[str, Any]) -> None:
        """Report a run that ended before there was anything to judge. `about` says what was to be run."""
        self.write(refused(error, about))

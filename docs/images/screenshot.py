"""Photographs the page of a finished run with headless Chromium: README's pictures, in English and Japanese.

    make screenshot                                   from runs/demo
    python docs/images/screenshot.py RUN FOLDER [--width 390 --height 2400]

Writes FOLDER/demo.png and FOLDER/demo.ja.png. The run folder stays as it is: its store is copied, and each page is written anew
in its language.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

from vlmerge.report.write import write_report
from vlmerge.store import STORE_NAME, Store

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("out", type=Path, help="where the pictures go")
    parser.add_argument("--width", type=int, default=1200, help="of the page in CSS pixels; 390 is a phone")
    parser.add_argument("--height", type=int, default=1500)
    options = parser.parse_args()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print("no browser was found\n  expected: " + ", ".join(BROWSERS) + "\n  what to do: install Chromium", file=sys.stderr)
        return 2
    if not (options.run / STORE_NAME).is_file():
        print(
            f"{options.run} is not a run folder\n  what to do: make demo, or name one: make screenshot OUT=…", file=sys.stderr
        )
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    for language, name in (("en", "demo.png"), ("ja", "demo.ja.png")):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            with Store.read_only(options.run / STORE_NAME) as store:
                store.snapshot(folder / STORE_NAME)
            page = write_report(folder, lang=language)
            photograph(browser, page, options.out / name, options.width, options.height)
        print(options.out / name)
    return 0


def photograph(browser: str, page: Path, picture: Path, width: int, height: int) -> None:
    """Takes a picture of a page. A frame gives it its width: a browser's own window cannot be as narrow as a phone."""
    frame = page.with_name("frame.html")
    style = f"border:0;width:{width}px;height:{height}px"
    frame.write_text(f'<body style="margin:0"><iframe src="{escape(page.name)}" style="{style}"></iframe>')
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}", "--virtual-time-budget=3000",
             f"--screenshot={picture.absolute()}", frame.absolute().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

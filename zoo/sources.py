"""Where the artwork and the names come from: npm packages, fetched by name and version with `npm pack`.

Takes nothing; gives one folder per package, `DIRECTORY/NAME-VERSION/`, with only the files that the builder reads.
"""

import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One npm package and the part of it that is used.

    Attributes:
        name: npm name, with its scope.
        version: exact version.
        licence: SPDX identifier of the part that is used (not always that of the package's code).
        attribution: who made it.
        parts: folders or files inside the package that are unpacked.
    """

    name: str
    version: str
    licence: str
    attribution: str
    parts: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Folder name after unpacking, e.g. `lobehub-fluent-emoji-3d-1.1.0`."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}"


GOOGLE = Package("emoji-datasource-google", "16.0.0", "Apache-2.0", "Noto Emoji, Google", ("img/google/64",))
TWITTER = Package(
    "emoji-datasource-twitter",
    "16.0.0",
    "CC-BY-4.0",
    "Twemoji, Twitter and contributors",
    ("img/twitter/64",),
)
FLUENT_3D = Package("@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "Fluent Emoji, Microsoft; packaged by LobeHub", ("assets",))
FLUENT_FLAT = Package("@lobehub/fluent-emoji-flat", "1.1.0", "MIT", "Fluent Emoji, Microsoft; packaged by LobeHub", ("assets",))
EMOJIONE = Package("emojione", "2.2.7", "CC-BY-4.0", "EmojiOne", ("assets/png_128x128", "assets/png_bw"))
OPENMOJI = Package("openmoji", "17.0.0", "CC-BY-SA-4.0", "OpenMoji", ("color/svg",))
CLDR = Package(
    "cldr-annotations-full",
    "48.2.0",
    "Unicode-3.0",
    "Unicode CLDR",
    ("annotations/en/annotations.json", "annotations/ja/annotations.json"),
)
CLDR_DERIVED = Package(
    "cldr-annotations-derived-full",
    "48.2.0",
    "Unicode-3.0",
    "Unicode CLDR",
    ("annotationsDerived/en/annotations.json", "annotationsDerived/ja/annotations.json"),
)
PACKAGES = (GOOGLE, TWITTER, FLUENT_3D, FLUENT_FLAT, EMOJIONE, OPENMOJI, CLDR, CLDR_DERIVED)


def fetch(directory: Path) -> None:
    """Downloads and unpacks every package that is not yet in `directory` (about 260 MB of tarballs, once)."""
    directory.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        target = directory / package.folder
        if target.exists():
            continue
        tarball = directory / f"{package.folder}.tgz"
        if not tarball.exists():
            print(f"npm pack {package.name}@{package.version}", flush=True)
            subprocess.run(
                ["npm", "pack", f"{package.name}@{package.version}"],
                cwd=directory,
                check=True,
                capture_output=True,
            )
        _unpack(tarball, package, target)


def _unpack(tarball: Path, package: Package, target: Path) -> None:
    unfinished = target.with_suffix(".unfinished")
    with tarfile.open(tarball) as archive:
        wanted = [m for m in archive if m.name.removeprefix("package/").startswith(package.parts)]
        archive.extractall(unfinished, members=wanted, filter="data")
    (unfinished / "package").rename(target)
    unfinished.rmdir()

"""Built machine code in the repository: one zip beside its sources, and the SHA-256 of every file in SHA256SUMS.

The sums cover the sources too, so a source that was edited without a rebuild shows.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Archive:
    """The zip `name` in `folder`, whose members are built from the sources there that match `patterns`."""

    folder: Path
    name: str
    patterns: tuple[str, ...]

    def sums(self) -> dict[str, str]:
        """File name -> SHA-256 in hex, from the two-column SHA256SUMS."""
        lines = (self.folder / SUMS).read_text(encoding="ascii", errors="replace").splitlines()
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def read(self, member: str) -> bytes:
        """The bytes of one member, from an archive that is what was built.

        Raises OSError when the archive or its sums are missing, unreadable or do not match.
        """
        packed = (self.folder / self.name).read_bytes()
        if hashlib.sha256(packed).hexdigest() != self.sums().get(self.name):
            raise OSError(f"{self.name} is damaged: it differs from its sum in {SUMS}")
        with zipfile.ZipFile(io.BytesIO(packed)) as members:
            return members.read(member)

    def write(self, members: dict[str, bytes]) -> None:
        """Replace the archive and its sums. Only the archive's own sum depends on the zlib at hand."""
        partial = self.folder / (self.name + ".partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for name in sorted(members):
                packed.writestr(zipfile.ZipInfo(name), members[name], zipfile.ZIP_DEFLATED, 9)
        archive_sum = {self.name: hashlib.sha256(partial.read_bytes()).hexdigest()}
        partial.replace(self.folder / self.name)
        sums = self.source_sums() | member_sums(members) | archive_sum
        lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
        (self.folder / SUMS).write_text("".join(lines), encoding="ascii", newline="\n")

    def source_sums(self) -> dict[str, str]:
        """SHA-256 of each source, read with any line endings and summed with LF."""
        sources = sorted(path for pattern in self.patterns for path in self.folder.glob(pattern))
        return {path.name: hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest() for path in sources}

    def differences(self, members: dict[str, bytes]) -> list[str]:
        """Names of sources and members that differ from the committed sums, or are on one side alone."""
        built, committed = self.source_sums() | member_sums(members), self.sums()
        committed.pop(self.name, None)  # how zlib packs the members is no difference in them
        return sorted(name for name in built.keys() | committed.keys() if built.get(name) != committed.get(name))


def member_sums(members: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 of each member."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}

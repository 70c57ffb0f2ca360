"""The built kernels: one zip of cubins and PTX beside their sources, and the SHA-256 of every file in SHA256SUMS.

`family.sm_75.cubin` is machine code for compute capability 7.5, `family.compute_75.ptx` assembly that a driver compiles
for anything newer. The sums cover the sources too, so a source that was edited without a rebuild shows.
"""

import hashlib
import io
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent / "cuda"
ARCHIVE = "images.zip"
SUMS = "SHA256SUMS"
FAMILIES = ("codebook", "dequantize", "linear", "motion", "patches")
CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
PTX_CAPABILITY = (7, 5)


def cubin_name(family: str, capability: tuple[int, int]) -> str:
    """File name of the machine code of `family` for compute capability (major, minor)."""
    return f"{family}.sm_{capability[0]}{capability[1]}.cubin"


def ptx_name(family: str) -> str:
    """File name of the PTX of `family`."""
    return f"{family}.compute_{PTX_CAPABILITY[0]}{PTX_CAPABILITY[1]}.ptx"


def candidates(family: str, capability: tuple[int, int]) -> list[str]:
    """The images that a device of `capability` can run: cubins of its major version, newest first, then PTX."""
    fitting = [built for built in CAPABILITIES if built[0] == capability[0] and built[1] <= capability[1]]
    names = [cubin_name(family, built) for built in sorted(fitting, reverse=True)]
    return names + [ptx_name(family)] if capability >= PTX_CAPABILITY else names


def read_sums(folder: Path = FOLDER) -> dict[str, str]:
    """File name -> SHA-256 in hex, from the two-column SHA256SUMS of `folder`."""
    lines = (folder / SUMS).read_text(encoding="ascii", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def read_image(name: str, folder: Path = FOLDER) -> bytes:
    """The bytes of one image, from an archive that is what was built.

    Raises OSError when the archive or its sums are missing, unreadable or do not match.
    """
    archive = (folder / ARCHIVE).read_bytes()
    if hashlib.sha256(archive).hexdigest() != read_sums(folder).get(ARCHIVE):
        raise OSError(f"{ARCHIVE} is damaged: it differs from its sum in {SUMS}")
    with zipfile.ZipFile(io.BytesIO(archive)) as images:
        return images.read(name)


def write_images(images: dict[str, bytes], folder: Path = FOLDER) -> None:
    """Replace the archive and the sums of `folder`. Only the archive's own sum depends on the zlib at hand."""
    partial = folder / (ARCHIVE + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(images):
            archive.writestr(zipfile.ZipInfo(name), images[name], zipfile.ZIP_DEFLATED, 9)
    archive_sum = {ARCHIVE: hashlib.sha256(partial.read_bytes()).hexdigest()}
    partial.replace(folder / ARCHIVE)
    sums = source_sums(folder) | image_sums(images) | archive_sum
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
    (folder / SUMS).write_text("".join(lines), encoding="ascii", newline="\n")


def image_sums(images: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 of each image."""
    return {name: hashlib.sha256(image).hexdigest() for name, image in images.items()}


def source_sums(folder: Path = FOLDER) -> dict[str, str]:
    """SHA-256 of each CUDA source, read with any line endings and summed with LF."""
    sources = sorted((*folder.glob("*.cu"), *folder.glob("*.cuh")))
    return {path.name: hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest() for path in sources}

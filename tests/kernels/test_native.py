"""The native library: built from its sources, chosen by the processor, unpacked whole, called on parked threads."""

import errno
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import pytest
import torch
from codeclens.kernels import archive, block_match, build, eager, native, quantized_linear
from codeclens.kernels import cpu_libraries as libraries
from support.blocks import quantized_weight
from support.native import instruction_sets, on_processor


def frames(seed: int, pairs: int = 1, height: int = 48, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (pairs, height, width, 3), dtype=torch.uint8, generator=generator)


def test_sources_are_those_that_were_built():
    """Fails after an edit of a source until `python -m codeclens.kernels.build cpu` has run."""
    sums = libraries.archive().sums()
    members = {target.name for target in libraries.TARGETS}
    assert set(sums) == {*members, *libraries.archive().source_sums(), "libraries.zip"}
    assert libraries.archive().source_sums().items() <= sums.items()
    assert archive.member_sums({name: libraries.archive().read(name) for name in members}).items() <= sums.items()
    assert (libraries.FOLDER / "libraries.zip").stat().st_size < 2e6


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [libraries.TARGETS[1], libraries.TARGETS[4], *libraries.TARGETS[6:]], ids=lambda target: target.name
)
def test_building_again_gives_the_same_bytes(target):
    try:
        build.zig()
    except OSError as error:
        pytest.skip(str(error))
    assert (
        archive.member_sums({target.name: build.compile_library(target)}).items() <= libraries.archive().sums().items()
    )


def test_a_source_that_does_not_compile_is_reported_with_its_line(tmp_path):
    try:
        build.zig()
    except OSError as error:
        pytest.skip(str(error))
    (tmp_path / "broken.c").write_text("int broken(void) {\n    return ;\n}\n")
    with pytest.raises(ValueError, match=r"do not compile for linux-x86-64-v2.so:(.|\n)*broken.c:2"):
        build.compile_library(libraries.TARGETS[0], tmp_path)


@pytest.mark.parametrize("target", libraries.TARGETS, ids=lambda target: target.name)
def test_libraries_are_of_their_system_and_export_every_function(target):
    content = libraries.archive().read(target.name)
    magic = {"linux": b"\x7fELF", "windows": b"MZ", "macos": b"\xcf\xfa\xed\xfe"}[target.system]
    assert content.startswith(magic)
    for name in (*native.FUNCTIONS, "processor_level", "set_poll"):
        assert name.encode() + b"\0" in content


def test_linux_libraries_ask_for_no_newer_glibc_than_2_17():
    for target in libraries.TARGETS:
        if target.system == "linux":
            content = libraries.archive().read(target.name)
            versions = {part.split(b"\0")[0] for part in content.split(b"GLIBC_")[1:]}
            assert versions and all(tuple(map(int, version.split(b"."))) <= (2, 17) for version in versions)


@pytest.mark.parametrize("instructions", instruction_sets())
def test_every_instruction_set_of_this_processor_runs(instructions, tmp_path):
    processor = native.Processor(instructions, cache=tmp_path)
    with on_processor(processor):
        current, reference = frames(1), frames(2)
        found = block_match(current, reference, 7, 1.0, True)
    assert processor.target.instructions == instructions
    for ours, theirs in zip(found, eager.block_match(current, reference, 7, 1.0, True), strict=True):
        assert torch.equal(ours, theirs)


def test_the_best_instruction_set_is_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv(native.SWITCH, raising=False)
    processor = native.Processor(cache=tmp_path)
    if not libraries.targets_here():
        pytest.skip("no native library is built for this system")
    assert processor.unavailable() is None and processor.target.instructions == instruction_sets()[-1]


@pytest.mark.parametrize(
    "choice, words",
    [("0", "switched off with CODECLENS_NATIVE=0"), ("x86-64-v9", "x86-64-v9, which CODECLENS_NATIVE asks for")],
)
def test_the_environment_chooses(monkeypatch, choice, words):
    monkeypatch.setenv(native.SWITCH, choice)
    processor = native.Processor()
    assert words in processor.unavailable()
    with on_processor(processor):
        assert torch.equal(
            block_match(frames(1), frames(2), 3, 1.0)[0], eager.block_match(frames(1), frames(2), 3, 1.0)[0]
        )


def test_a_processor_that_is_gone_leaves_no_callback():
    """Of two with one library, the first computes past the 50 ms between callbacks after the second is deleted.

    Each pair of frames is a job of its own, so that the frames must be large: 0.2 s for the first on one core."""
    kept, gone = native.Processor(""), native.Processor("")
    called = []
    kept.watch = lambda: called.append(1)
    assert kept.unavailable() is None and gone.unavailable() is None
    with on_processor(gone):
        block_match(frames(1), frames(2), 16, 1.0)
    del gone
    gc.collect()
    replaced = [native.POLL(lambda go_on: None) for _ in range(50)]
    with on_processor(kept):
        for scale in (1, 2, 4):
            block_match(frames(1, 1, 1440 * scale, 1920), frames(2, 1, 1440 * scale, 1920), 16, 1.0)
            if called:
                break
    assert called and replaced


def test_unpacking_replaces_what_is_damaged_and_leaves_no_parts(tmp_path):
    folder = tmp_path / "cache"
    path = native.unpacked(b"library", "name.so", folder)
    assert path.read_bytes() == b"library" and [path] == list(folder.iterdir())
    path.write_bytes(b"librar")
    assert native.unpacked(b"library", "name.so", folder) == path and path.read_bytes() == b"library"
    assert native.unpacked(b"other", "name.so", folder) != path
    assert {file.read_bytes() for file in folder.iterdir()} == {b"library", b"other"}


def test_a_cache_that_cannot_be_written_leaves_the_eager_twin(tmp_path):
    (tmp_path / "file").write_text("")
    processor = native.Processor("", cache=tmp_path / "file" / "folder")
    if not libraries.targets_here():
        pytest.skip("no native library is built for this system")
    assert processor.unavailable().startswith(f"the cache folder {tmp_path / 'file' / 'folder'} cannot be written: ")
    with on_processor(processor):
        assert not block_match(frames(3), frames(3), 3, 1.0)[0].any()


def test_of_a_read_only_cache_the_folder_is_named_and_no_temporary_file(tmp_path, monkeypatch):
    def read_only(dir, suffix):
        raise OSError(errno.EROFS, "Read-only file system", f"{dir}/tmp1234{suffix}")

    monkeypatch.setattr(native.tempfile, "mkstemp", read_only)
    with pytest.raises(OSError) as raised:
        native.unpacked(b"library", "name.so", tmp_path)
    assert str(raised.value) == f"the cache folder {tmp_path} cannot be written: Read-only file system"


REFUSING = """if True:
    import sys
    from pathlib import Path
    import torch
    from codeclens.__main__ import main
    from codeclens.kernels import block_match, eager
    from codeclens.kernels.native import Processor
    from codeclens.models.weights import embedded_pair
    from support.native import on_processor
    current, reference = torch.randint(0, 256, (2, 1, 32, 48, 3), dtype=torch.uint8)
    wanted = eager.block_match(current, reference, 5, 4.0)
    for folder in sys.argv[1:]:
        with on_processor(Processor("", cache=Path(folder))):
            main(["info", str(embedded_pair()[0])])
            assert all(torch.equal(*pair) for pair in zip(block_match(current, reference, 5, 4.0), wanted))
"""


def test_where_the_cache_may_not_run_or_mend_a_library_the_eager_twin_serves_and_info_says_so(tmp_path):
    """On file systems mounted in a namespace of the child's own, which end with it."""
    alone = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*alone, "mount", "-t", "tmpfs", "a", "/mnt"]).returncode:
        pytest.skip("no file system may be mounted here")
    if not libraries.targets_here():
        pytest.skip("no native library is built for this system")
    target = libraries.targets_here()[0]
    damaged = native.unpacked(libraries.archive().read(target.name), target.name, tmp_path / "damaged")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / "noexec").mkdir()
    mounts = "mount -t tmpfs -o noexec a noexec && mount --bind damaged damaged && mount -o remount,bind,ro damaged"
    run = subprocess.run(
        [*alone, "sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-c", REFUSING] + ["noexec", "damaged"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith("on the processor: ")]
    assert len(lines) == 2 and all("no native code: " in line for line in lines), lines
    assert f"noexec/{damaged.name}: failed to map" in lines[0] and "damaged cannot be written: Read-only" in lines[1]
    assert not list((tmp_path / "noexec").iterdir()) and [damaged] == list((tmp_path / "damaged").iterdir())


def test_a_damaged_archive_is_refused(tmp_path):
    if not libraries.targets_here():
        pytest.skip("no native library is built for this system")
    with zipfile.ZipFile(tmp_path / "libraries.zip", "w") as members:
        members.writestr(libraries.targets_here()[0].name, b"not a library")
    (tmp_path / archive.SUMS).write_text(f"{'0' * 64}  libraries.zip\n")
    assert "libraries.zip is damaged" in native.Processor("", folder=tmp_path, cache=tmp_path).unavailable()


POOLED = """if True:
    import os, sys, threading, torch
    from codeclens.kernels import block_match
    def search(seed=0):
        generator = torch.Generator().manual_seed(seed)
        current, reference = torch.randint(0, 256, (2, 2, 128, 128, 3), dtype=torch.uint8, generator=generator)
        return block_match(current, reference, 16, 4.0)
    torch.set_num_threads(3)
    wanted = search()
    def right():
        return all(torch.equal(*pair) for pair in zip(search(), wanted))
"""


def run_pooled(script: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", POOLED + script], capture_output=True, text=True, timeout=120, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_pool_survives_a_fork_and_is_shared_by_many_threads():
    script = """
    for _ in range(3 if hasattr(os, "fork") else 0):
        child = os.fork()
        if not child:
            os._exit(0 if right() and right() else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert right()
    found = []
    threads = [threading.Thread(target=lambda: found.extend(right() for _ in range(10))) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert found == [True] * 40, found
    print("right")
    """
    assert run_pooled(script) == "right\n"


def test_the_interpreter_ends_while_a_search_runs():
    script = """
    noise = torch.randint(0, 256, (2, 1, 512, 512, 3), dtype=torch.uint8).repeat(1, 64, 1, 1, 1)
    threading.Thread(target=lambda: block_match(*noise, 128, 4.0), daemon=True).start()
    import time
    time.sleep(0.3)
    print("ends", flush=True)
    """
    assert run_pooled(script) == "ends\n"


def test_a_watcher_stops_a_long_search(tmp_path):
    processor = native.Processor("", cache=tmp_path)
    if processor.unavailable():
        pytest.skip(processor.unavailable())

    class Stopped(Exception):
        pass

    def watch():
        raise Stopped(threading.get_ident())

    processor.watch = watch
    noise = torch.randint(0, 256, (2, 1, 512, 512, 3), dtype=torch.uint8).repeat(1, 64, 1, 1, 1)
    with on_processor(processor):
        with pytest.raises(Stopped, match=str(threading.get_ident())):
            block_match(*noise, 128, 4.0)
        processor.watch = None
        assert not block_match(noise[0, :1, :64, :64].contiguous(), noise[0, :1, :64, :64].contiguous(), 8, 4.0)[
            0
        ].any()


def long_search():
    noise = torch.randint(0, 256, (2, 1, 512, 512, 3), dtype=torch.uint8).repeat(1, 64, 1, 1, 1)
    return lambda: block_match(*noise, 128, 4.0)


def long_product():
    blocks, x = quantized_weight("Q4_K", 16384, 4096, seed=1), torch.randn(4096, 4096)
    return lambda: quantized_linear(x, blocks, "Q4_K", int8=True)


@pytest.mark.slow
@pytest.mark.parametrize("work", [long_search, long_product])
def test_what_computes_long_stops_within_a_second_of_being_asked(tmp_path, work):
    processor = native.Processor("", cache=tmp_path)
    if processor.unavailable():
        pytest.skip(processor.unavailable())
    begun, asked = time.thread_time(), []

    def watch():
        if time.thread_time() - begun > 0.3:
            asked.append(time.thread_time())
            raise InterruptedError

    run = work()
    begun, processor.watch = time.thread_time(), watch
    with on_processor(processor), pytest.raises(InterruptedError):
        run()
    ended = time.thread_time()
    assert ended - asked[0] < 0.2 and ended - begun < 1.3


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent by the system's own call")
def test_an_interrupt_from_the_keyboard_stops_a_long_search():
    script = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background job ignores it.
    noise = torch.randint(0, 256, (2, 1, 512, 512, 3), dtype=torch.uint8).repeat(1, 64, 1, 1, 1)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        block_match(*noise, 128, 4.0)
    except KeyboardInterrupt:
        print("stopped")
    """
    assert run_pooled(script) == "stopped\n"

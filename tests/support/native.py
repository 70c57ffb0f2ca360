"""Native code under test: which instruction sets this machine runs, and another library put in force for a while."""

from contextlib import contextmanager

from codeclens.kernels import cpu_libraries, native, registry


def instruction_sets() -> list[str]:
    """The instruction sets of the built libraries that this machine can run, lowest first."""
    names = [target.instructions for target in cpu_libraries.targets_here()]
    return [name for name in names if native.Processor(name).unavailable() is None]


@contextmanager
def on_processor(processor: native.Processor):
    """Ops on the processor are served by `processor` inside."""
    before = registry.use(registry.Registry(processor=processor))
    try:
        yield processor
    finally:
        registry.use(before)

"""All faults by all metrics: rendered clips with exactly one fault beside their twins without it."""

import dataclasses

import numpy as np
from codeclens.models.source.reading import VideoSource
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import FAULTS, SPLITS, sample_clip
from codeclens.models.video.measurement import measure
from codeclens.models.video.metrics import METRICS

NAMES = [metric.name for metric in METRICS]
FIRST_SEED = SPLITS["test"][0] + 500_000
A_TWENTIETH = 0.05


@dataclasses.dataclass(frozen=True)
class FaultTable:
    """Metrics of clips without fault float64 [n, M], and by fault how much it changes each of n clips, [n, M]."""

    clean: np.ndarray
    shifts: dict[str, np.ndarray]

    def typical(self, fault: str, metric: str) -> float:
        """Median change of a metric by a fault."""
        return float(np.nanmedian(self.shifts[fault][:, NAMES.index(metric)]))

    def noise(self, metric: str) -> float:
        """Standard deviation of a metric over clean clips; a twentieth of its largest typical change, if more."""
        deviation = float(np.nanstd(self.clean[:, NAMES.index(metric)]))
        return max(deviation, A_TWENTIETH * max(abs(self.typical(fault, metric)) for fault in self.shifts))


def fault_table(clips: int, size: int = 128) -> FaultTable:
    """Measure ``clips`` clips of each fault, 3 seconds at 12 frames a second, ``size`` x ``size`` pixels."""
    clean, shifts = [], {fault: [] for fault in FAULTS}
    for number in range(clips):
        spoilt = {fault: sample_clip(FIRST_SEED + number, "fault", fault=fault, seconds=3, fps=12) for fault in FAULTS}
        (twin,) = {dataclasses.replace(clip, faults=()) for clip in spoilt.values()}
        clean.append(values_of(twin, size))
        for fault, clip in spoilt.items():
            shifts[fault].append(values_of(clip, size) - clean[-1])
    return FaultTable(np.array(clean), {fault: np.array(rows) for fault, rows in shifts.items()})


def values_of(clip, size: int) -> np.ndarray:
    frames = np.stack(list(render(clip, (size, size))))
    measured = measure(VideoSource.from_images(frames, clip.fps)).clip
    return np.array([measured[name] for name in NAMES], np.float64)


def markdown(table: FaultTable) -> str:
    """A row for each metric: mean and noise without fault, and what each fault does, more than the noise in bold."""
    lines = [f"| | clean | noise | {' | '.join(table.shifts)} |", "|---" * (3 + len(table.shifts)) + "|"]
    for at, metric in enumerate(METRICS):
        cells = []
        for fault in table.shifts:
            shift = table.typical(fault, metric.name)
            text = f"{shift:+.2g}" if shift else "0"
            cells.append(f"**{text}**" if abs(shift) > table.noise(metric.name) else text)
        words = f"{metric.words}, {metric.unit}"
        mean = np.nanmean(table.clean[:, at])
        lines.append(f"| {words} | {mean:.3g} | {table.noise(metric.name):.2g} | {' | '.join(cells)} |")
    return "\n".join(lines)

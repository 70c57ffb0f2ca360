"""Each metric rises on its own fault and stays within its noise on the others."""

import numpy as np
import pytest
from codeclens.models.synthetic.scenes import FAULTS
from support.fault_table import NAMES, fault_table

pytestmark = pytest.mark.slow

OWN = {
    "flicker": "flicker",
    "freeze": "longest_freeze",
    "duplicate": "frozen",
    "vanish": "sudden_change",
    "morph": "sudden_change",
    "jitter": "jitter",
}
ALSO = {
    # A frame shown twice is a short freeze, and a freeze is made of frames that repeat.
    ("longest_freeze", "duplicate"),
    ("frozen", "freeze"),
    # Where the only thing that moved is gone, the picture stands still.
    ("longest_freeze", "vanish"),
    ("frozen", "vanish"),
    # A flicker changes bright parts more than dark ones, which no change of the mean explains.
    ("sudden_change", "flicker"),
}


@pytest.fixture(scope="module")
def table():
    return fault_table(8)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_metric_rises_on_its_own_fault(fault, table):
    own = OWN[fault]
    rises = table.shifts[fault][:, NAMES.index(own)]
    assert (rises > 0).all() and np.median(rises) > table.noise(own)


@pytest.mark.parametrize("metric", sorted(set(OWN.values())))
def test_a_metric_stays_within_its_noise_on_other_faults(metric, table):
    others = [fault for fault in FAULTS if OWN[fault] != metric and (metric, fault) not in ALSO]
    assert others and all(abs(table.typical(fault, metric)) <= table.noise(metric) for fault in others)

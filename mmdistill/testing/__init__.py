"""For tests of methods: toys, ranks, comparison of states, memory, real data."""

import mmdistill.core  # noqa: F401  # isort: skip  (first: see light_optim.py)

from mmdistill.testing.compare import assert_same_state, captured_log, state_differences
from mmdistill.testing.data import real_data
from mmdistill.testing.memory import LiveMemory, peak_bytes
from mmdistill.testing.ranks import RankError, cpu_ranks, run_gloo
from mmdistill.testing.toys import (
    ToyCloudModel,
    ToyDataset,
    ToyMetric,
    ToyModel,
    ToySemiModel,
    toy_runner,
)

__all__ = [
    'LiveMemory',
    'RankError',
    'ToyCloudModel',
    'ToyDataset',
    'ToyMetric',
    'ToyModel',
    'ToySemiModel',
    'assert_same_state',
    'captured_log',
    'cpu_ranks',
    'peak_bytes',
    'real_data',
    'run_gloo',
    'state_differences',
    'toy_runner',
]

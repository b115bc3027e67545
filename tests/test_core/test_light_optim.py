"""mmengine's optimizers without the import of transformers, and Adafactor all the same."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import mmdistill.core
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
slow = sorted({'transformers', 'peft'} & sys.modules.keys())
import torch
layer = torch.nn.Linear(3, 2)
wrapper = build_optim_wrapper(layer, dict(
    type='OptimWrapper', optimizer=dict(type='Adafactor', lr=0.1, relative_step=False)))
before = layer.weight.detach().clone()
wrapper.update_params(layer(torch.ones(1, 3)).sum())
from transformers import Adafactor
print(json.dumps(dict(
    slow=slow,
    same=type(wrapper.optimizer) is Adafactor,
    moved=bool((layer.weight != before).all()),
    known=sorted({'SGD', 'AdamW', 'Adafactor'} & set(OPTIMIZERS.module_dict)))))
"""


@pytest.fixture(scope='module')
def seen() -> dict:
    """What a fresh process sees that imports the core first."""
    run = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_the_core_does_not_import_transformers(seen) -> None:
    """Neither transformers nor peft is loaded by importing the core and mmengine's optimizers."""
    assert seen['slow'] == []


def test_adafactor_is_built_from_its_name_and_steps(seen) -> None:
    """A config that names Adafactor gets transformers' class, and it changes the weights."""
    assert seen['known'] == ['Adafactor', 'AdamW', 'SGD']
    assert seen['same'] and seen['moved']

"""Perplexity of held-out answers in mmengine's own loop: the same however rows are batched."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from mmdistill.core.launch import read_config
from mmkd.registry import DATASETS, MODELS

SMOKE = 'configs/orca/orca_smoke.py'


@pytest.fixture(scope='module')
def student(request):
    """The student of the smoke config, not trained."""
    torch.manual_seed(0)
    return MODELS.build(read_config(request.path.parents[2] / SMOKE).model)


def scored(student, batch_size, packer, collate):
    """Scores of a pass over the same answers."""
    packs = dict(type='mmkd.WorldPacks', cap=256, count=12, split='dev', packer=packer)
    loader = Runner.build_dataloader(
        dict(
            dataset=DATASETS.build(packs),
            batch_size=batch_size,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type=f'mmkd.{collate}'),
        )
    )
    evaluator = Evaluator(dict(type='mmkd.PerplexityMetric'))
    student.eval()
    with torch.no_grad():
        for batch in loader:
            evaluator.process(student.val_step(batch), batch)
    return evaluator.evaluate(12)


def test_rows_in_any_batches_and_packs_have_one_perplexity(student):
    alone = scored(student, 1, 'none', 'unpacked_collate')
    assert alone['language/perplexity'] > 100  # of 387 tokens, for one that has not learned
    for how in ((5, 'none', 'unpacked_collate'), (3, 'best_fit', 'unpacked_collate'),
                (2, 'best_fit', 'padded_collate')):  # fmt: skip
        found = scored(student, *how)
        assert found['language/nll'] == pytest.approx(alone['language/nll'], rel=1e-5), how

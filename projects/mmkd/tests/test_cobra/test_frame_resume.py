"""A training of frames that is interrupted anywhere ends the same; steps in parts are whole."""

import pytest
import torch
from frame_training import STEPS, config, write_source
from tiny_frames import FAMILIES, TEMPLATE, pairs, student, word_tokenizer

from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state
from mmdistill.testing.resume_check import run, training_state
from mmkd.cobra.students.dataset import CobraFrameDataset
from mmkd.language.collate import padded_collate
from mmkd.language.seq2seq_batches import seq2seq_collate, split_rows
from mmkd.loops.accumulating import targets_of


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A folder of frames and a tokenizer."""
    return write_source(tmp_path_factory.mktemp('source'))


@pytest.fixture(scope='module')
def whole(source, tmp_path_factory):
    """The folder of an unbroken training."""
    folder = tmp_path_factory.mktemp('whole')
    assert run(config(source, folder)) == 0
    return folder


@pytest.mark.parametrize('cut', [2, 3, 7])
def test_a_resumed_training_is_an_unbroken_one(cut, whole, source, tmp_path):
    cfg = config(source, tmp_path)
    cfg.update(load_from=str(whole / f'iter_{cut}.pth'), resume=True)
    assert run(cfg) == 0
    wanted = training_state(whole / f'iter_{STEPS}.pth')
    assert_same_state(training_state(tmp_path / f'iter_{STEPS}.pth'), wanted)
    assert not (tmp_path / f'iter_{cut}.pth').exists()
    names = {'loss', 'nll', 'tokens'}
    logged = wanted['history']
    assert names <= {key.removeprefix('train/') for key in logged}


def test_settings_that_do_not_fit(source, tmp_path):
    with pytest.raises(UserError, match='accumulate=3: the batch_size 4 is no multiple of it'):
        run(config(source, tmp_path, accumulate=3))
    cfg = config(source, tmp_path)
    cfg['train_dataloader']['sampler']['batch_size'] = 2
    with pytest.raises(UserError, match='batch_size is 2 in the LengthGroupedSampler and 4 in'):
        run(cfg)


@pytest.mark.parametrize('kind', FAMILIES)
def test_parts_of_a_batch_have_its_gradient(kind):
    weights = dict(slot_weights=dict(offensiveness=3.0, power=0.0)) if kind == 't5' else {}
    data = CobraFrameDataset(
        pairs(), TEMPLATE, word_tokenizer(), decoder_only=kind != 't5', **weights
    )
    collate = seq2seq_collate if kind == 't5' else padded_collate
    batch = collate([data[row] for row in (0, 1, 6, 7, 2, 3, 4, 5)])
    model = student(kind, dtype='float64')

    def gradient(batches):
        share = dict(global_tokens=targets_of(batches), accumulate=len(batches))
        losses = [model(**each, **share, mode='loss')['loss'] for each in batches]
        mean = torch.stack(losses).mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(mean, model.parameters())])

    parts = split_rows(batch, 4)
    assert len({part['input_ids'].shape for part in parts}) > 1
    wanted = gradient([batch])
    assert wanted.norm() > 0 and (gradient(parts) - wanted).norm() <= 1e-6 * wanted.norm()
    plain = model(**batch, mode='loss')['loss']
    alone = torch.cat([g.flatten() for g in torch.autograd.grad(plain, model.parameters())])
    assert (alone - wanted).norm() <= 1e-9 * wanted.norm()

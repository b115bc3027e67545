"""A teacher that is asked once says the same: losses, gradients, resumed trainings."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmkd.datasets.indexed import IndexedDataset
from mmkd.datasets.text_dataset import pad_collate
from mmkd.intervention.teacher_intervention import TeacherIntervention
from mmkd.models.teacher_cache import TeacherCacheHook, filled_cache
from mmkd.registry import DATASETS

GIB = 2**30


class Sentences(torch.utils.data.Dataset):
    """Ten sentences of different lengths."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        ids = [(7 * index + 3 * n) % 49 + 1 for n in range(3 + index % 4)]
        return dict(inputs=dict(input_ids=ids, attention_mask=[1] * len(ids)), labels=index % 2)


def network():
    """A BERT of two layers."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, intermediate_size=64)
    config = BertConfig(**sizes, num_attention_heads=4, initializer_range=0.2)
    return BertForSequenceClassification(config)


def wide(samples):
    """Batches of one width."""
    return pad_collate(samples, width=8)


@pytest.fixture
def model():
    """A student that is past its interventions."""
    made = TeacherIntervention(network(), intervention_steps=2)
    made.step = 2
    return made.eval()


def filled(model, kinds=None, collate=wide, limit=GIB, dataset=None, batch_size=3):
    """The cache of a model's teacher."""
    kinds = model.cached_kinds() if kinds is None else kinds
    dataset = IndexedDataset(Sentences()) if dataset is None else dataset
    return filled_cache(model.teacher, dataset, collate, kinds, limit, batch_size)


def test_losses_and_gradients_are_those_of_a_teacher_that_is_asked_each_time(model):
    data = IndexedDataset(Sentences())
    batch = wide([data[n] for n in (7, 2, 9, 2)])
    found = []
    for cache in (None, filled(model)):
        model.teacher_cache = cache
        model.zero_grad()
        losses = model.loss(**batch)
        sum(losses.values()).backward()
        grads = [each.grad for each in model.parameters() if each.grad is not None]
        found.append((losses, [each.clone() for each in grads]))
    (plain, first), (kept, second) = found
    assert plain.keys() == kept.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], kept[name], rtol=1e-5, atol=1e-6)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_teacher_runs_once_per_sample_unless_it_intervenes(model):
    model.teacher_cache = filled(model)
    asked, teacher = [], model.teacher
    model.teacher = lambda inputs, kinds: asked.append(set(kinds)) or teacher(inputs, kinds)
    batch = wide([IndexedDataset(Sentences())[n] for n in (1, 4)])
    model.loss(**batch)
    assert asked == []
    model.loss(batch['inputs'], batch['labels'])  # samples without a number
    assert len(asked) == 1
    model.step, model.schedule = 0, 'map'
    model.loss(**batch)
    assert len(asked) == 2 and 'maps' in asked[1]


@pytest.mark.parametrize('size', [1, 4, 10])
def test_what_is_kept_does_not_depend_on_the_batches(model, size):
    one, other = filled(model), filled(model, batch_size=size)
    index = torch.tensor([9, 0, 5])
    first, second = (each.get(index, torch.device('cpu')) for each in (one, other))
    torch.testing.assert_close(first.logits, second.logits)
    for name in model.cached_kinds():
        pairs = zip(getattr(first, name), getattr(second, name), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs), name


def test_filling_it_again_gives_the_same_bits_and_draws_no_random_number(model):
    before, index = torch.get_rng_state(), torch.arange(10)
    first, second = (filled(model).get(index, torch.device('cpu')) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.logits, second.logits)
    for name in model.cached_kinds():
        pairs = zip(getattr(first, name), getattr(second, name), strict=True)
        assert all(torch.equal(*pair) for pair in pairs), name


def test_logits_alone_need_no_width(model):
    cache = filled(model, kinds=(), collate=pad_collate, batch_size=1)
    data = IndexedDataset(Sentences())
    batch = wide([data[n] for n in range(10)])
    direct = model.teacher(batch['inputs'])
    kept = cache.get(batch['index'], torch.device('cpu'))
    torch.testing.assert_close(kept.logits, direct.logits)


def test_widths_limits_and_samples_without_number_are_refused(model):
    with pytest.raises(UserError, match='give texts one width'):
        filled(model, collate=pad_collate)
    with pytest.raises(UserError, match='raise limit_gb'):
        filled(model, limit=1000)
    with pytest.raises(UserError, match=r'mmkd\.IndexedDataset'):
        filled(model, dataset=Sentences())
    with pytest.raises(UserError, match='a text has 6 ids'):
        pad_collate([Sentences()[3]], width=5)


def test_data_that_change_are_refused(model):
    class Changing(Sentences):
        changes_samples = True

    with pytest.raises(UserError, match='changes its samples at random'):
        filled(model, dataset=IndexedDataset(Changing()))


def test_the_hook_fills_it_for_a_runner(model, tmp_path):
    init_default_scope('mmengine')
    DATASETS.register_module(name='_Sentences', module=Sentences, force=True)
    runner = Runner(
        model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='mmkd.pad_collate', width=8),
            dataset=dict(type='mmkd.IndexedDataset', dataset=dict(type='mmkd._Sentences')),
        ),
        train_cfg=dict(type='mmdistill.IterTrainLoop', max_iters=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.0)),
        custom_hooks=[TeacherCacheHook(batch_size=4)],
        experiment_name='cache',
        default_scope='mmengine',
    )
    asked = []
    call = model.teacher.__class__.__call__
    model.teacher.__class__.__call__ = lambda *args: asked.append(1) or call(*args)
    try:
        runner.train()
    finally:
        model.teacher.__class__.__call__ = call
    assert len(asked) == 3  # ten samples by four, none of the steps

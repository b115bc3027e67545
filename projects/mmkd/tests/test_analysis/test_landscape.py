"""Models measured as they are to be used, pictures, and the tool as a user calls it."""

import importlib.util
import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from mmdistill.core.errors import UserError, run_tool
from mmdistill.core.launch import read_config
from mmdistill.testing import assert_same_state
from mmkd.analysis import probe
from mmkd.analysis.directions import filter_normalised
from mmkd.analysis.hessian import HVP, hessian_product, top_eigenvalues
from mmkd.analysis.plots import spectrum_figure, surface_figure
from mmkd.analysis.surface import Surface, grid_steps, loss_surface
from mmkd.intervention.teacher_intervention import TeacherIntervention
from mmkd.models.classifier import Classifier
from mmkd.registry import MODELS

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / 'configs/teacher_intervention/ti_smoke.py'


def bert():
    """Two layers of width 16; dropout, which must not be seen."""
    torch.manual_seed(0)
    given = dict(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    given |= dict(intermediate_size=32, hidden_dropout_prob=0.3, initializer_range=0.2)
    return BertForSequenceClassification(BertConfig(**given))


def batches(count=2):
    """Three sentences with padding each."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        ids, mask = torch.randint(1, 30, (3, 6), generator=generator), torch.ones(3, 6).long()
        mask[1, 3:] = 0
        inputs = dict(input_ids=ids * mask, attention_mask=mask)
        found.append(dict(inputs=inputs, labels=torch.tensor([0, 1, 1])))
    return found


def student(**options):
    """Another than its teacher, with its interventions at first."""
    model = TeacherIntervention(bert(), intervention_steps=6, **options)
    with torch.no_grad():
        for each in model.student.parameters():
            each.mul_(1.2)
    return model.train()


def test_the_middle_is_the_loss_of_the_student_without_interventions():
    model, given = student(weights=dict(labels=1.0)), batches()
    state = {name: each.clone() for name, each in model.state_dict().items()}
    numbers, parameters = torch.get_rng_state(), probe.trainable(model)
    directions = [
        filter_normalised(parameters, torch.Generator().manual_seed(seed)) for seed in (0, 1)
    ]
    with probe.measured(model):
        surface = loss_surface(lambda: probe.mean_loss(model, given), parameters, *directions, 3)
    assert model.training and model.student.training and model.step == 0
    assert torch.equal(torch.get_rng_state(), numbers)
    assert_same_state(dict(model.state_dict()), state)
    assert torch.isfinite(surface.losses).all() and surface.losses.std() > 0

    model.eval()
    with torch.no_grad():
        intervened = [sum(model.loss(**each).values()) for each in given]
        model.step = 6
        alone = [sum(model.loss(**each).values()) for each in given]
    assert surface.centre == float(torch.stack(alone).mean())
    assert surface.centre != float(torch.stack(intervened).mean())


def test_the_teacher_runs_once_for_each_batch():
    model, given, runs = student(), batches(), []
    model.teacher.network.register_forward_pre_hook(lambda *_: runs.append(1))
    teacher = model.teacher
    with probe.measured(model), torch.no_grad():
        values = [float(probe.mean_loss(model, given)) for _ in range(3)]
        assert len(runs) == 2 and len(set(values)) == 1
    assert model.teacher is teacher


def test_a_loss_in_evaluation_counts_nothing_but_losses():
    class Sums(BaseModel):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, inputs, labels=None, mode='loss'):
            return dict(loss_a=self.weight * inputs, accuracy=torch.ones(()), b_loss=[inputs] * 2)

    loss = probe.batch_loss(Sums(), dict(inputs=torch.tensor([1.0, 4.0])))
    assert loss.item() == 2.5 + 2 * 2.5


@pytest.mark.parametrize('hvp', HVP)
def test_a_quantized_student_has_finite_eigenvalues(hvp):
    model, (batch,) = student(), batches(1)
    parameters = probe.trainable(model)
    start = torch.randn(sum(each.numel() for each in parameters))
    with (
        probe.measured(model),
        hessian_product(lambda: probe.batch_loss(model, batch), parameters, hvp) as product,
    ):
        found = top_eigenvalues(product, start, 1, 15)
        if hvp == 'autograd':  # symmetric, in spite of the quantizers
            one, two = start / start.norm(), torch.randn_like(start) / start.norm()
            assert float(one @ product(two)) == pytest.approx(float(two @ product(one)), abs=1e-3)
    assert math.isfinite(found.values[0]) and abs(found.values[0]) > 1e-2


def test_attention_that_is_fused_has_a_second_derivative():
    model, (batch,) = Classifier(bert()), batches(1)
    assert model.network.config._attn_implementation == 'sdpa'
    parameters, vectors = probe.trainable(model), []
    loss = lambda: probe.batch_loss(model, batch)  # noqa: E731
    direction = torch.cat([each.detach().flatten() for each in parameters])
    with probe.measured(model.double()):
        for hvp in HVP:
            with hessian_product(loss, parameters, hvp) as product:
                vectors.append(product(direction.double()))
    torch.testing.assert_close(*vectors, atol=1e-5, rtol=1e-4)
    assert vectors[0].abs().max() > 1e-2


def test_weights_of_another_model_are_named(tmp_path):
    model, path = Classifier(bert()), str(tmp_path / 'other.pth')
    state = model.state_dict()
    name = 'network.classifier.bias'
    for change, said in (
        (dict(state, extra=torch.ones(1)), "also has 'extra'"),
        ({k: v for k, v in state.items() if k != name}, f"lacks '{name}'"),
        (dict(state, **{name: torch.ones(7)}), f"another shape of '{name}'"),
    ):
        torch.save(dict(state_dict=change), path)
        with pytest.raises(UserError, match=said):
            probe.load_weights(model, path)
    other = {key: each + 1 if each.is_floating_point() else each for key, each in state.items()}
    torch.save(dict(state_dict=other), path)
    probe.load_weights(model, path)
    assert_same_state(dict(model.state_dict()), other)


def surface(function, size=5):
    """A surface of a function of both steps."""
    steps = grid_steps(size, 1.0)
    return Surface(steps, function(*torch.meshgrid(steps, steps, indexing='ij')))


def test_panels_share_colours_and_show_the_first_direction_to_the_right():
    shown = dict(a=surface(lambda a, b: 1 + a**2), b=surface(lambda a, b: 5 + a + 0 * b))
    figure = surface_figure(shown)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [panel.get_title() for panel in panels] == ['a', 'b']
    meshes = [panel.collections[0] for panel in panels]
    assert {mesh.get_clim() for mesh in meshes} == {(1.0, 6.0)}
    drawn = np.asarray(meshes[1].get_array()).reshape(5, 5)
    assert drawn[0].tolist() == [4.0, 4.5, 5.0, 5.5, 6.0]  # along x
    assert [panel.texts[0].get_text() for panel in panels] == ['1', '5']
    assert type(surface_figure(shown, log=True).axes[0].collections[0].norm).__name__ == 'LogNorm'


def test_what_cannot_be_drawn_is_said_and_flat_surfaces_are_drawn():
    surface_figure(dict(a=surface(lambda a, b: 0 * a + 2)), log=True)
    with pytest.raises(UserError, match='no logarithm'):
        surface_figure(dict(a=surface(lambda a, b: a)), log=True)
    with pytest.raises(UserError, match='finite'):
        surface_figure(dict(a=surface(lambda a, b: a / 0 * 0)))
    with pytest.raises(UserError, match='finite'):
        spectrum_figure(dict(a=[float('nan')]))


def test_histograms_have_the_same_bins_and_count_every_batch():
    panel = spectrum_figure(dict(a=[-10.0, 1, 1, float('nan')], b=[30.0]), 4).axes[0]
    bars = [[bar.get_height() for bar in each] for each in panel.containers]
    assert bars == [[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ['a (3)', 'b (1)']


# ---------------------------------------------------------------------- the tool


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Sentences, and two checkpoints of the smoke config on them."""
    folder, words = tmp_path_factory.mktemp('landscape'), ['film', 'story', 'is', 'dull', 'a']
    drawn = random.Random(0)
    for name in ('train', 'dev'):
        rows = [(drawn.choices(words, k=4), drawn.randint(0, 1)) for _ in range(6)]
        text = ''.join(f'{" ".join(row)} {("bad", "good")[k]}\t{k}\n' for row, k in rows)
        (folder / f'{name}.tsv').write_text(text)
    for seed in range(2):
        torch.manual_seed(seed)
        state = MODELS.build(read_config(CONFIG).model).state_dict()
        torch.save(dict(state_dict=state), folder / f'{seed}.pth')
    return folder


def call(monkeypatch, trained, *args, options=()):
    """Runs the tool in this process; its exit status."""
    path = PROJECT / 'tools/loss_landscape.py'
    spec = importlib.util.spec_from_file_location('tool_loss_landscape', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    words = ['loss_landscape.py', CONFIG, *args, '--device', 'cpu', '--cfg-options', *options]
    words += [f'{name}_dataloader.dataset.data_root={trained}' for name in ('train', 'val')]
    monkeypatch.setattr(sys, 'argv', [*map(str, words), 'val_dataloader.batch_size=3'])
    try:
        run_tool(tool.main)
    except SystemExit as end:
        return end.code
    return 0


def numbers(folder):
    """What the tool wrote."""
    return json.loads((folder / 'loss_landscape.json').read_text())


def test_the_tool_writes_pictures_and_numbers(monkeypatch, trained, tmp_path, capsys):
    args = [trained / '0.pth', trained / '1.pth', '--label', 'one', 'two', '--grid', 3, '--eigen']
    args += ['--batches', 2, '--products', 4]
    assert call(monkeypatch, trained, *args, '--out', tmp_path / 'a') == 0
    for name in ('surface.png', 'eigenvalues.png'):
        assert (tmp_path / 'a' / name).read_bytes().startswith(b'\x89PNG')
    found = numbers(tmp_path / 'a')
    assert '--label one two' in found['command'] and found['batches'] == 2
    assert [each['label'] for each in found['checkpoints']] == ['one', 'two']
    first, second = found['checkpoints']
    assert first['surface']['centre'] == first['surface']['losses'][1][1]
    assert first['surface']['centre'] != second['surface']['centre']
    assert [len(each['values']) for each in first['eigenvalues']] == [1, 1]
    assert 'one: surface: 9 of 9' in capsys.readouterr().err
    # one checkpoint alone gives the same numbers, and another seed others but in the middle
    args = [trained / '1.pth', '--grid', 3, '--batches', 2]
    assert call(monkeypatch, trained, *args, '--out', tmp_path / 'b') == 0
    alone = numbers(tmp_path / 'b')['checkpoints'][0]
    assert alone['surface'] == second['surface'] and alone['label'] == f'{trained.name}/1'
    assert not (tmp_path / 'b/eigenvalues.png').exists()
    assert call(monkeypatch, trained, *args, '--out', tmp_path / 'c', '--seed', 1) == 0
    other = numbers(tmp_path / 'c')['checkpoints'][0]['surface']
    assert other['centre'] == alone['surface']['centre']
    assert other['losses'] != alone['surface']['losses']


@pytest.mark.parametrize(
    ('args', 'options', 'said'),
    [
        (['gone.pth'], [], 'gone.pth: there is no such checkpoint'),
        (['0.pth', '--label', 'a', 'b'], [], '2 names for 1 checkpoints'),
        (['0.pth', '0.pth'], [], 'two checkpoints are called'),
        (['0.pth', '--grid', '4'], [], 'grid must be odd'),
        (['0.pth', '--no-surface'], [], 'add --eigen'),
        (['0.pth', '--batches', '0'], [], 'at least 1 batch'),
        (['0.pth'], ['val_dataloader.dataset.label=None'], 'the batch has no labels'),
        (['0.pth'], ['model.teacher.num_labels=3'], "has another shape of 'student.classifier"),
    ],
)
def test_errors_are_one_line(monkeypatch, trained, tmp_path, capsys, args, options, said):
    args = [trained / each if each.endswith('.pth') else each for each in args]
    args += ['--out', tmp_path / 'out']
    assert call(monkeypatch, trained, *args, options=options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: ') and said in lines[0]
    assert not (tmp_path / 'out/surface.png').exists()

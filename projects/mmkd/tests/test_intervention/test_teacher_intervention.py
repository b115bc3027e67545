"""The method: equal to a form written out, gradients end where they should, nothing else moves."""

import copy

import pytest
import torch
import written_out
from transformer_cases import HEADS, LAYERS, bert, images, sentences, vit

from mmdistill.core.errors import UserError
from mmkd.intervention.schedule import mode_at
from mmkd.intervention.teacher_intervention import TeacherIntervention

MODES = ['output', 'context', 'map', None]


def model_of(teacher, student=None, mode=None, **options):
    """The method in one mode."""
    steps = 10 if mode else 0
    given = dict(student=student, schedule=mode or 'none', intervention_steps=steps)
    return TeacherIntervention(teacher, **{**given, **options})


def gradients(model, inputs, labels=None):
    """Losses and gradients by name; None where there is none."""
    model.zero_grad(set_to_none=True)
    losses = model(inputs, labels, mode='loss')
    sum(losses.values()).backward()
    return losses, {name: each.grad for name, each in model.student.named_parameters()}


@pytest.mark.parametrize('mode', MODES)
def test_losses_and_gradients_are_those_of_the_form_written_out(mode):
    teacher, student, inputs = bert(), bert(seed=1), sentences()
    params = {n: p.detach().clone().requires_grad_() for n, p in student.named_parameters()}
    fixed = {n: p.detach().clone() for n, p in teacher.named_parameters()}
    args = inputs['input_ids'], inputs['attention_mask'], HEADS, LAYERS
    signals = written_out.forward(fixed, *args, quantized=False)
    expected = written_out.losses(
        written_out.forward(params, *args, mode=mode, teacher=signals), signals
    )
    sum(expected.values()).backward()
    losses, found = gradients(model_of(teacher, student, mode), inputs)
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert float(value.detach()) == pytest.approx(float(expected[name]), abs=1e-6, rel=1e-6)
    for name, grad in found.items():
        wanted = params[name].grad
        assert (grad is None) == (wanted is None), name
        if grad is not None:
            assert (grad - wanted).abs().max() <= 1e-6 * max(1, wanted.abs().max()), name


@pytest.mark.parametrize(
    ('mode', 'parts'),
    [('output', ('value', 'attention.output.dense')), ('context', ('value',)), ('map', ())],
)
def test_what_has_no_gradient(mode, parts):
    _, found = gradients(model_of(bert(), mode=mode), sentences())
    without = {name for name, grad in found.items() if grad is None}
    expected = {
        name for name in found
        for part in parts if f'{part}.weight' in name or f'{part}.bias' in name
    }  # fmt: skip
    assert without == expected and len(expected) == 2 * len(parts) * LAYERS


@pytest.mark.parametrize('make', [bert, vit])
@pytest.mark.parametrize('mode', MODES)
def test_an_identical_student_is_not_changed_by_interventions(make, mode):
    inputs = sentences() if make is bert else images()
    plain = make().eval()
    with torch.no_grad():
        wanted = plain(**inputs).logits
    model = model_of(make(), mode=mode, recipe=[], attention_act=None).eval()
    assert torch.allclose(model(inputs), wanted, atol=1e-6)
    losses, _ = gradients(model, inputs)
    for name, value in losses.items():
        if name != 'loss_prediction':
            assert float(value.detach()) < 1e-10, name
    entropy = -(wanted.softmax(-1) * wanted.log_softmax(-1)).sum(-1).mean()
    assert float(losses['loss_prediction'].detach()) == pytest.approx(float(entropy), abs=1e-6)


@pytest.mark.parametrize('make', [bert, vit])
@pytest.mark.parametrize(
    ('mode', 'dead'), [('output', 'qkvo'), ('context', 'qkv'), ('map', 'qk'), (None, '')]
)
def test_what_is_replaced_does_not_matter_above(make, mode, dead):
    """Noise in projections below the replaced tensor leaves the logits, elsewhere not."""
    inputs = sentences() if make is bert else images()
    model = model_of(make(), mode=mode).eval()

    def logits():
        with torch.no_grad():
            return float(model(inputs, mode='loss')['loss_prediction'])

    names = dict(q=('query', 'q_proj'), k=('key', 'k_proj'), v=('value', 'v_proj'))
    names |= dict(o=('attention.output.dense', 'o_proj'), f=('output.dense', 'fc2'))
    before = logits()
    for kind, ends in names.items():
        layers = {
            name: layer for name, layer in model.student.named_modules()
            if name.endswith(ends) and (kind != 'f' or 'attention.output' not in name)
        }  # fmt: skip
        assert layers
        saved = copy.deepcopy(model.student.state_dict())
        with torch.no_grad():
            for layer in layers.values():
                layer.weight.add_(torch.randn_like(layer.weight))
        assert (logits() == before) == (kind in dead), kind
        model.student.load_state_dict(saved)


@pytest.mark.parametrize('mode', MODES)
def test_scores_do_not_shape_lower_layers_while_the_teacher_stands_in(mode):
    only = dict(prediction=0, hidden=0, joined=0)
    _, found = gradients(model_of(bert(), mode=mode, weights=only), sentences())
    model = model_of(bert(), mode=mode, weights=only)
    losses = model.loss(sentences(), None)
    assert list(losses) == ['loss_scores']
    lower = found['bert.encoder.layer.0.intermediate.dense.weight']
    reached = lower is not None and float(lower.abs().max()) > 0
    assert reached == (mode is None)
    query = found[f'bert.encoder.layer.{LAYERS - 1}.attention.self.query.weight']
    assert float(query.abs().max()) > 0


def test_evaluation_neither_intervenes_nor_asks_the_teacher():
    model = model_of(bert(), mode='output').eval()
    before = model(sentences())
    model.teacher.network = None
    assert torch.equal(model(sentences()), before)
    assert len(model(sentences(), torch.zeros(4, dtype=torch.long), mode='predict')) == 4
    plain = model_of(bert(), mode=None).eval()
    assert torch.equal(plain(sentences()), before)


def test_the_loss_has_no_side_effects():
    model, inputs = model_of(bert(), mode='map'), sentences()
    state = copy.deepcopy(model.state_dict())
    first, second = (model(inputs, mode='loss') for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_the_teacher_is_in_no_checkpoint_and_stays_frozen():
    model = model_of(bert(), mode='map')
    names = set(model.state_dict())
    assert names == {f'student.{name}' for name in bert().state_dict()}
    assert len(list(model.parameters())) == len(list(bert().parameters()))
    model.train()
    assert not model.teacher.network.training and model.student.training
    assert not any(each.requires_grad for each in model.teacher.network.parameters())
    before = copy.deepcopy(model.teacher.network.state_dict())
    optim = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients(model, sentences())
    optim.step()
    after = model.teacher.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    own = dict(model.student.named_parameters())
    assert all(own[n] is not p for n, p in model.teacher.network.named_parameters())


@pytest.mark.parametrize(
    ('make', 'linear', 'embedding'), [(bert, 6 * LAYERS + 1, 1), (vit, 6 * 2, 0)]
)
def test_the_default_recipe_takes_the_published_layers(make, linear, embedding):
    model = model_of(make())
    kinds = [type(each).__name__ for each in model.student.modules()]
    assert kinds.count('QuantizedLinear') == linear
    assert kinds.count('QuantizedEmbedding') == embedding
    assert 'QuantizedConv2d' not in kinds
    assert type(model.student.classifier) is torch.nn.Linear


def test_padding_is_masked_and_other_ids_in_it_do_not_matter():
    inputs = sentences()
    model = model_of(bert(), recipe=[], attention_act=None).eval()
    other = dict(inputs, input_ids=torch.where(
        inputs['attention_mask'] == 0, torch.full_like(inputs['input_ids'], 7), inputs['input_ids'],
    ))  # fmt: skip
    assert torch.allclose(model(inputs), model(other), atol=1e-6)
    shorter = {name: each[1:2, :3] for name, each in inputs.items()}
    assert torch.allclose(model(inputs)[1:2], model(shorter), atol=1e-6)


def test_the_papers_internal_losses_reach_what_was_replaced():
    for mode in ('output', 'context', 'map'):
        _, found = gradients(model_of(bert(), mode=mode, internal_loss='paper'), sentences())
        assert all(grad is not None for grad in found.values())
    losses, _ = gradients(model_of(bert(), mode=None, internal_loss='paper'), sentences())
    assert 'loss_internal' not in losses


def test_labels_count_when_they_have_a_weight():
    labels = torch.tensor([0, 1, 1, 0])
    model = model_of(bert(), weights=dict(labels=0.5, hidden=0, joined=0, scores=0, prediction=0))
    losses, _ = gradients(model, sentences(), labels)
    logits = model.student(**sentences()).logits
    wanted = 0.5 * torch.nn.functional.cross_entropy(logits, labels)
    assert list(losses) == ['loss_labels'] and torch.allclose(losses['loss_labels'], wanted)
    with pytest.raises(UserError, match='the batch has no labels'):
        model(sentences(), None, mode='loss')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(schedule='gradul'), 'schedule must be one of'),
        (dict(internal_loss='both'), "internal_loss must be 'official' or 'paper'"),
        (dict(intervention_steps=-1), 'intervention_steps must be at least 0'),
        (dict(weights=dict(hiden=1)), "weights: unknown key 'hiden' .did you mean 'hidden'"),
        (dict(student=bert(num_hidden_layers=2)), 'the student has 2 layers, the teacher 3'),
    ],
)
def test_wrong_options_say_so(options, message):
    with pytest.raises(UserError, match=message):
        TeacherIntervention(bert(), **options)


def test_networks_without_known_attention_are_refused():
    with pytest.raises(UserError, match='Sequential has no attention that is known'):
        TeacherIntervention(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(('steps', 'first', 'second'), [(120, 20, 40), (60, 10, 20)])
def test_the_gradual_schedule(steps, first, second):
    found = [mode_at('gradual', step, steps) for step in range(steps)]
    expected = ['output'] * first + ['context'] * (second - first) + ['map'] * (steps - second)
    assert found == expected


def test_other_schedules():
    inverted = [mode_at('inverted', step, 60) for step in range(60)]
    assert inverted == ['map'] * 20 + ['context'] * 20 + ['output'] * 20
    drawn = [mode_at('stochastic', step, 600) for step in range(600)]
    assert all(140 < drawn.count(mode) < 260 for mode in ('output', 'context', 'map'))
    assert drawn == [mode_at('stochastic', step, 600) for step in range(600)]
    assert drawn != [mode_at('stochastic', step, 600, seed=1) for step in range(600)]
    assert {mode_at('map', step, 60) for step in range(60)} == {'map'}
    model = model_of(bert(), schedule='gradual', intervention_steps=6)
    seen = []
    for model.step in range(8):
        seen.append(model.mode)
    assert seen == ['output', 'context', 'map', 'map', 'map', 'map', None, None]

"""Networks of timm: what they tell, learn and compute with is that of an equal one elsewhere."""

import copy

import pytest
import timm
import torch
from timm_cases import LAYERS, WIDTH, equal, images, packed, small, theirs
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state
from mmkd.intervention.intervene import Intervene
from mmkd.intervention.teacher_intervention import RECIPE, TeacherIntervention
from mmkd.models.classifier import Classifier
from mmkd.quant.modules import QuantizedLayer
from mmkd.quant.pack import pack, size_of, unpack
from mmkd.quant.quantizers import Binary, Integer, SymmetricActivation, Ternary
from mmkd.quant.recipe import quantize, restore
from mmkd.signals.attention import install
from mmkd.signals.observer import Observer, Recorder, observed_by
from mmkd.signals.parts import find_parts
from mmkd.signals.timm_attention import InThirds

MODES = [None, 'output', 'context', 'map']
CLOSE = dict(atol=1e-5, rtol=1e-5)


def observed(network, quantizer=None):
    """The network after installation."""
    install(network, find_parts(network), quantizer)
    return network


def qkv_of(network, layer=0):
    """A packed projection."""
    return network.model.blocks[layer].attn.qkv


def tokens_of():
    """What an attention layer reads."""
    return torch.randn(2, 5, WIDTH, dtype=torch.float64)


def run(model, inputs):
    """Losses, gradients by name, and signals of a step."""
    model.zero_grad(set_to_none=True)
    losses = model.loss(inputs, None)
    sum(losses.values()).backward()
    with torch.no_grad():
        student = Intervene(model.mode, model.teacher(inputs, model.needed(model.mode)))
        student.signals.logits = student.run(model.student, inputs)
    return losses, {n: p.grad for n, p in model.student.named_parameters()}, student


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(recipe=[], attention_act=None),
        dict(internal_loss='paper', weights=dict(maps=1.0)),
    ],
    ids=['quantized', 'plain', 'paper'],
)
def test_losses_signals_and_gradients_are_those_of_hugging_face(mode, options):
    teacher, student, inputs = theirs(), theirs(seed=1), images()
    given = dict(schedule=mode or 'none', intervention_steps=10 if mode else 0, **options)
    mine = run(TeacherIntervention(equal(teacher), equal(student), **given), inputs)
    wanted = run(TeacherIntervention(teacher, student, **given), inputs)
    torch.testing.assert_close(mine[0], wanted[0], **CLOSE)
    for kind in ('scores', 'maps', 'contexts', 'outputs', 'hidden'):
        found = getattr(mine[2].signals, kind)
        assert len(found) == LAYERS + (kind == 'hidden')
        torch.testing.assert_close(found, getattr(wanted[2].signals, kind), **CLOSE)
    torch.testing.assert_close(mine[2].sums(), wanted[2].sums(), **CLOSE)
    torch.testing.assert_close(mine[2].signals.logits, wanted[2].signals.logits, **CLOSE)
    values = [each for name, each in wanted[1].items() if '.v_proj.' in name]
    lacking = mode in ('output', 'context') and options.get('internal_loss') != 'paper'
    assert all((each is None) == lacking for each in values)
    for layer in range(LAYERS):
        slices = [mine[1][f'model.blocks.{layer}.attn.qkv.{end}'] for end in ('weight', 'bias')]
        assert all((each[2 * WIDTH :].count_nonzero() == 0) == lacking for each in slices)
        assert all(each[:WIDTH].any() for each in slices)
    for name, grad in packed(wanted[1]).items():
        assert (mine[1][name] is None) == (grad is None), name
        if grad is not None:
            close = (mine[1][name] - grad).abs().max() <= 1e-5 * grad.abs().max().clamp(min=1)
            assert close, name


@pytest.mark.parametrize('quantized', [False, True])
def test_a_quantized_classifier_is_that_of_hugging_face(quantized):
    network, inputs = theirs(), images()
    rules = dict(
        recipe=RECIPE[:2] + RECIPE[3:], attention_act=dict(type='mmkd.SymmetricActivation')
    )
    rules = rules if quantized else {}
    mine, wanted = Classifier(equal(network), **rules), Classifier(network, **rules)
    plain = mine(inputs)
    torch.testing.assert_close(plain, wanted(inputs), **CLOSE)
    mine.eval()
    with torch.no_grad():
        torch.testing.assert_close(mine(inputs), plain, **CLOSE)  # with kept weights


VARIANTS = [
    dict(),
    dict(qk_norm=True, init_values=0.1, qkv_bias=False, pre_norm=True, reg_tokens=2),
    dict(scale_attn_norm=True, class_token=False, global_pool='avg'),
    dict(drop_path_rate=0.5, proj_drop_rate=0.2, attn_drop_rate=0.2, pos_drop_rate=0.1),
]


@pytest.mark.parametrize('options', VARIANTS)
@pytest.mark.parametrize('observer', [None, Recorder()])
def test_installation_changes_no_logits_and_no_gradients(options, observer):
    plain = small(**options)
    for each in plain.model.blocks:
        each.attn.fused_attn = False
    mine = observed(copy.deepcopy(plain))
    assert_same_state(dict(mine.state_dict()), dict(plain.state_dict()))
    found = []
    for network in (plain, mine):
        torch.manual_seed(3)
        with observed_by(observer):
            logits = network(**images()).logits
        logits.square().sum().backward()
        found.append((logits, [each.grad for each in network.parameters()]))
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('given', ['mask', 'bool', 'causal'])
def test_masks_are_those_of_timm(given):
    plain = small()
    mine, tokens = observed(copy.deepcopy(plain)), tokens_of()
    options = dict(
        mask=dict(attn_mask=torch.randn(5, 5).double()),
        bool=dict(attn_mask=torch.tensor([1, 1, 0, 1, 0]).bool().expand(5, 5)),
        causal=dict(is_causal=True),
    )[given]
    wanted = plain.model.blocks[0].attn(tokens, **options)
    torch.testing.assert_close(mine.model.blocks[0].attn(tokens, **options), wanted)


def test_gates_see_what_is_not_cut():
    class Cut(Observer):
        def attention_input(self, layer, values):
            return values.detach()

    plain = small()
    for each in plain.model.blocks:
        each.attn.gate = nn.Linear(WIDTH, WIDTH).double()
    mine = observed(copy.deepcopy(plain))
    torch.testing.assert_close(mine(**images()).logits, plain(**images()).logits)
    tokens = tokens_of().requires_grad_()
    with observed_by(Cut()):
        mine.model.blocks[0].attn(tokens).sum().backward()
    assert tokens.grad.any()
    mine.model.blocks[0].attn.gate = None
    with observed_by(Cut()):
        assert not torch.autograd.grad(
            mine.model.blocks[0].attn(tokens).sum(), tokens, allow_unused=True
        )[0]


@pytest.mark.parametrize('scale', [None, 0.1])
def test_outputs_come_before_and_sums_after_the_layer_scale(scale):
    network, recorder = observed(small(init_values=scale)), Recorder()
    inner, read = [], []
    for block in network.model.blocks:
        block.ls1.register_forward_pre_hook(lambda _, args: inner.append(args[0]))
        block.norm1.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    with observed_by(recorder):
        network(**images())
    signals = recorder.signals
    torch.testing.assert_close(signals.outputs, inner)
    torch.testing.assert_close(signals.hidden[:-1], read)
    sums = [x + (scale or 1) * ao for x, ao in zip(read, inner, strict=True)]
    torch.testing.assert_close(signals.joined, sums)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('quantized', [False, True])
def test_queries_and_keys_can_read_something_else_than_values(bias, quantized):
    class Other(Observer):
        def query_key_input(self, layer, values):
            return values.flip(1) + 1

        def context(self, layer, values):
            found.append(values)
            return values

        def scores(self, layer, values):
            found.append(values)

    network, found = observed(small(qkv_bias=bias)), []
    if quantized:
        quantize(network, [dict(pattern='qkv', weight=Ternary(), act=SymmetricActivation())])
    attention, tokens = network.model.blocks[0].attn, tokens_of()
    with observed_by(Other()):
        attention(tokens)
    query, key, _ = attention.split(attention.qkv(tokens.flip(1) + 1))
    value = attention.split(attention.qkv(tokens))[2]
    scores = query @ key.mT * attention.scale
    torch.testing.assert_close(found, [scores, scores.softmax(-1) @ value], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('each', [Ternary(), Ternary(axis=0), Ternary(axis=1), Binary(), Integer()])
def test_parts_of_a_packed_weight_are_quantized_one_by_one(each):
    weight = torch.randn(3, 4, 5) * torch.tensor([0.1, 1.0, 3.0])[:, None, None]
    parts = [part.clone().requires_grad_() for part in weight]
    whole = weight.flatten(0, 1).requires_grad_()
    quantizer = InThirds(axis=each.axis, clip=each.clip, each=each)
    upstream = torch.randn(12, 5)
    quantizer(whole).backward(upstream)
    torch.cat([each(part) for part in parts]).backward(upstream)
    assert torch.equal(quantizer(whole), torch.cat([each(part) for part in parts]))
    assert torch.equal(whole.grad, torch.cat([part.grad for part in parts]))
    codes, scale = quantizer.codes(whole.detach())
    assert torch.equal(codes * scale, quantizer(whole).detach()) and quantizer.bits == each.bits


def test_six_matrices_of_a_layer_are_quantized_and_nothing_else():
    model = TeacherIntervention(small(pre_norm=True, class_token=True, reg_tokens=1))
    names = [n for n, m in model.student.named_modules() if isinstance(m, QuantizedLayer)]
    kinds = ('attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2')
    assert names == [f'model.blocks.{i}.{kind}' for i in range(LAYERS) for kind in kinds]
    assert all(isinstance(qkv_of(model.student, i).weight_quantizer, InThirds) for i in (0, 1))
    weights = sum(model.student.get_submodule(name).weight.numel() for name in names)
    assert weights == LAYERS * (4 * WIDTH**2 + 2 * WIDTH * 64)
    pooled = TeacherIntervention(small(class_token=False, global_pool='map'))
    heads = [n for n, m in pooled.student.named_modules() if isinstance(m, QuantizedLayer)]
    assert heads == names


def test_packed_codes_give_the_same_logits_and_three_scales():
    model = TeacherIntervention(equal(theirs()), attention_act=None).eval()
    content = pack(model.student)
    scale = content['packed']['model.blocks.0.attn.qkv.weight']['scale']
    assert scale.shape == (3 * WIDTH, 1)
    assert [len(part.unique()) for part in scale.chunk(3)] == [1] * 3 and len(scale.unique()) == 3
    assert size_of(content).quantized == LAYERS * (4 * WIDTH**2 + 2 * WIDTH * 64)
    other = observed(small()).eval()
    other.load_state_dict(unpack(content))
    quantize(other, [dict(pattern='blocks', act=SymmetricActivation())])
    torch.testing.assert_close(other(**images()).logits, model(images()), atol=1e-6, rtol=1e-5)


def test_the_input_of_the_packed_projection_is_quantized_once():
    class Counting(SymmetricActivation):
        calls = 0

        def __call__(self, values):
            Counting.calls += 1
            return super().__call__(values)

    network = observed(small())
    shared = find_parts(network).shared_inputs
    quantize(network, [dict(pattern='qkv', act=Counting())], shared)
    network(**images())
    assert shared == [] and Counting.calls == LAYERS


def test_copies_compute_alike_and_quantization_ends():
    network = observed(small(), SymmetricActivation())
    before = network(**images()).logits
    quantize(network, [dict(pattern='blocks', weight=Ternary())])
    wanted = network(**images()).logits
    assert not torch.allclose(before, wanted)
    other = copy.deepcopy(network)
    assert torch.equal(other(**images()).logits, wanted)
    restore(other)
    assert torch.equal(other(**images()).logits, before) and find_parts(other).packed
    assert torch.equal(network(**images()).logits, wanted)


def test_installation_is_done_once_and_first():
    network = observed(small())
    with pytest.raises(UserError, match=r'blocks.0.attn.qkv is a PackedLinear: install comes'):
        observed(network)
    network = small()
    quantize(network, [dict(pattern='blocks', weight=Ternary())])
    with pytest.raises(UserError, match=r'qkv is a QuantizedLinear: install comes first'):
        observed(network)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('swin_tiny_patch4_window7_224', 'layers.0.blocks.0.attn: a .*WindowAttention cannot'),
        ('vit_relpos_small_patch16_224', 'blocks.0.attn: a .*RelPosAttention cannot be observed'),
        ('beit_base_patch16_224', 'blocks.0.attn: a timm.models.beit.Attention cannot'),
        ('pit_ti_224', 'its blocks are not in one row; of timm only'),
        ('resnet18', 'has no attention that is known: .* or a VisionTransformer of timm'),
    ],
)
def test_other_attention_says_so(name, message):
    with torch.device('meta'), pytest.raises(UserError, match=message):
        find_parts(timm.create_model(name))


def test_other_blocks_say_so():
    from timm.models.vision_transformer import ParallelThingsBlock, ResPostBlock

    for kind in (ResPostBlock, ParallelThingsBlock):
        with pytest.raises(UserError, match='cannot be observed; of timm only'):
            find_parts(small(block_fn=kind))
    with pytest.raises(UserError, match=r'DiffAttention cannot be observed'):
        find_parts(small(attn_layer='diff'))

"""Documents of a pack are as if each were alone."""

import pytest
import torch
from packed_cases import VOCAB, alone, documents, network, packed
from torch import nn
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import create_mask
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask

from mmdistill.core.errors import UserError
from mmkd.language import attention as packs
from mmkd.language.causal_student import CausalStudent
from mmkd.language.lm_loss import kept_losses, next_labels, token_losses
from mmkd.language.model_types import PROVEN, check_head, check_packing

DOC_IDS = torch.tensor([[0, 0, 1, 1, 1, -1, -1], [5, 5, 5, 7, 5, 5, 5]])
LENGTHS = (9, 14, 6, 12)
TOLERANCE = 1e-5


def by_hand(window=None):
    """Queries by keys of DOC_IDS, in loops."""
    spans = [[(0, 2), (2, 5), (5, 7)], [(0, 3), (3, 4), (4, 7)]]
    seen = torch.zeros(2, 1, 7, 7, dtype=torch.bool)
    for row, parts in enumerate(spans):
        for start, end in parts:
            for query in range(start, end):
                for key in range(start, query + 1):
                    seen[row, 0, query, key] = window is None or query - key < window
    return seen


def student(net, **options):
    """A student around a network, as wide as it is."""
    return CausalStudent(net, pad_vocab_to=1, **options)


def losses(model, batch):
    """Losses of the places that count, in the order of rows."""
    hidden = model.hidden(batch['input_ids'], batch['position_ids'], batch['doc_ids'])
    return kept_losses(hidden, next_labels(batch['labels']), model.head)


def reference(net, docs):
    """Losses of documents one by one."""
    return torch.cat([alone(net, *each) for each in docs])


# ---------------------------------------------------------------------- masks


@pytest.mark.parametrize('window', [None, 2])
def test_masks_are_those_by_hand(window):
    seen = by_hand(window)
    assert packs.visible(DOC_IDS, window).equal(seen)
    mask = packs.additive_mask(DOC_IDS, torch.bfloat16, window)
    assert mask.dtype == torch.bfloat16 and (mask == 0).equal(seen)
    assert (mask[~seen] == torch.finfo(torch.bfloat16).min).all()
    block = packs.flex_mask(DOC_IDS, window)
    assert create_mask(block.mask_mod, 2, 1, 7, 7, device='cpu').equal(seen)
    assert block.shape == (2, 1, 7, 7)


def test_every_row_sees_itself():
    seen = packs.visible(torch.full((1, 5), -1))
    assert seen.diagonal(dim1=-2, dim2=-1).all()
    scores = packs.additive_mask(torch.full((1, 5), -1), torch.float32)
    assert scores.softmax(-1).isfinite().all()


def test_flash_lengths_count_rows_end_to_end():
    found = packs.flash_lengths(DOC_IDS)
    assert found['cu_seq_lens_q'].tolist() == [0, 2, 5, 7, 10, 11, 14]
    assert found['cu_seq_lens_q'].dtype == torch.int32
    assert found['cu_seq_lens_k'] is found['cu_seq_lens_q']
    assert (found['max_length_q'], found['max_length_k']) == (3, 3)
    assert packs.flash_lengths(torch.zeros(2, 4))['cu_seq_lens_q'].tolist() == [0, 4, 8]


def test_arguments_by_implementation():
    config = PreTrainedConfig()
    for name, form in (('eager', torch.float64), ('sdpa', torch.bool)):
        config._attn_implementation = name
        mask = packs.packed_arguments(config, DOC_IDS, torch.float64)['attention_mask']
        assert mask.dtype == form and mask.shape == (2, 1, 7, 7)
    config._attn_implementation = 'flash_attention_2'
    own = packs.packed_arguments(config, DOC_IDS, torch.float64)
    assert own.pop('attention_mask') is None and own.keys() == set(packs.FLAT)
    flat = dict.fromkeys(packs.FLAT, 3)
    given = packs.packed_arguments(config, DOC_IDS, torch.float64, flat)
    assert given == dict(flat, attention_mask=None)
    config._attn_implementation = 'flex_atention'
    with pytest.raises(UserError, match="'flex_atention' is not known.*mean 'flex_attention'"):
        packs.packed_arguments(config, DOC_IDS, torch.float64)


# ---------------------------------------------------------------------- packed == alone


@pytest.mark.parametrize('kernel', ['eager', 'sdpa'])
@pytest.mark.parametrize('kind', PROVEN)
def test_packed_losses_are_those_alone(kind, kernel):
    net, docs = network(kind, kernel), documents(LENGTHS)
    rows = [docs[:2], docs[2:]]
    with torch.no_grad():
        found = losses(student(net), packed(rows, 29))
        wanted = reference(net, docs)
    assert len(found) == len(wanted) == sum(n - max(1, n // 3) for n in LENGTHS)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE)


def not_compiled(query, key, value, training=False, **options):
    """FlexAttention without the compiler, which takes a minute."""
    return flex_attention.flex_attention(query, key, value, **options)


@pytest.mark.parametrize('kind', ['llama', 'qwen2'])
def test_flex_on_the_cpu(kind, monkeypatch):
    monkeypatch.setattr(
        'transformers.integrations.flex_attention.compile_friendly_flex_attention', not_compiled
    )
    monkeypatch.setattr(flex_attention, '_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG', True)
    net, docs = network(kind, 'flex_attention'), documents(LENGTHS)
    other = network(kind, 'sdpa')
    with torch.no_grad():
        found = losses(student(net), packed([docs[:2], docs[2:]], 29))
        wanted = reference(other, docs)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize('kernel', ['eager', 'sdpa'])
@pytest.mark.parametrize(
    ('kind', 'changes'),
    [
        ('mistral', dict(sliding_window=4)),
        ('phi3', dict(sliding_window=4)),
        ('qwen2', dict(use_sliding_window=True, sliding_window=4, max_window_layers=1)),
    ],
)
def test_windows_of_layers_hold_inside_documents(kind, changes, kernel):
    net, docs = network(kind, kernel, **changes), documents(LENGTHS)
    wide = network(kind, kernel, **dict(changes, sliding_window=60))
    with torch.no_grad():
        found = losses(student(net), packed([docs], 45))
        wanted, without = reference(net, docs), reference(wide, docs)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE)
    assert (wanted - without).abs().max() > 0.01


@pytest.mark.parametrize('kind', ['llama', 'gpt2', 'qwen2'])
def test_bfloat16(kind):
    net, docs = network(kind, dtype='bfloat16'), documents(LENGTHS)
    with torch.no_grad():
        found = losses(student(net), packed([docs], 45))
        wanted = reference(net, docs)
        mixed = losses(student(net, block_diagonal=False), packed([docs], 45))
    assert ((found.double() - wanted).abs() / wanted).mean() < 2e-3
    assert ((mixed.double() - wanted).abs() / wanted).mean() > 0.1


@pytest.mark.parametrize('kind', ['llama', 'gpt2', 'qwen2'])
def test_packed_gradient_is_that_of_documents_alone(kind):
    net, docs = network(kind), documents(LENGTHS)
    wanted = torch.autograd.grad(reference(net, docs).mean(), net.parameters())
    found = torch.autograd.grad(
        losses(student(net), packed([docs[:3], docs[3:]], 32)).mean(), net.parameters()
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kernel', ['eager', 'sdpa'])
def test_no_gradient_reaches_other_documents(kernel):
    net, docs = network('llama', kernel), documents(LENGTHS)
    batch, spans = packed([docs], 45), torch.tensor([0, *LENGTHS]).cumsum(0).tolist()
    embedded = []
    net.get_input_embeddings().register_forward_hook(
        lambda module, args, out: embedded.append(out.detach().requires_grad_()) or embedded[-1]
    )
    found = losses(student(net), batch).split([n - n // 3 for n in LENGTHS])
    for number, part in enumerate(found):
        grad = torch.autograd.grad(part.sum(), embedded[0], retain_graph=True)[0][0]
        inside = torch.zeros(45, dtype=torch.bool)
        inside[spans[number] : spans[number + 1]] = True
        assert (grad[~inside] == 0).all() and (grad[inside] != 0).any()


def test_order_of_documents_changes_nothing():
    net, docs, order = network('gpt2'), documents(LENGTHS), (2, 0, 3, 1)
    kept = [n - n // 3 for n in LENGTHS]
    with torch.no_grad():
        first = losses(student(net), packed([docs], 45)).split(kept)
        shuffled = losses(student(net), packed([[docs[i] for i in order]], 45))
    for part, number in zip(shuffled.split([kept[i] for i in order]), order, strict=True):
        torch.testing.assert_close(part, first[number], rtol=0, atol=TOLERANCE)


# ---------------------------------------------------------------------- what must not be equal


def gap(net, docs, **call):
    """The greatest difference to documents alone, of a network called by hand."""
    batch = packed([docs], sum(len(ids) for ids, _ in docs))
    call = {'position_ids': batch['position_ids'], **call}
    with torch.no_grad():
        logits = net(input_ids=batch['input_ids'], **call).logits
        targets = next_labels(batch['labels'])
        kept = targets != -100
        found = token_losses(logits[kept], targets[kept]).double()
        return float((found - reference(net, docs)).abs().max())


@pytest.mark.parametrize('kernel', ['eager', 'sdpa'])
def test_negative_controls(kernel):
    docs = documents(LENGTHS)
    llama, ones = network('llama', kernel), torch.ones(1, sum(LENGTHS))
    assert gap(llama, docs, use_cache=False) < TOLERANCE
    assert gap(llama, docs) > 0.01
    assert gap(llama, docs, use_cache=False, attention_mask=ones) > 0.01
    mask = packs.additive_mask(packed([docs], 41)['doc_ids'], torch.float32)
    straight = torch.arange(41)[None]
    gpt2 = network('gpt2', kernel)
    assert gap(gpt2, docs, use_cache=False, attention_mask=mask) < TOLERANCE
    assert gap(gpt2, docs, use_cache=False, attention_mask=mask, position_ids=straight) > 0.01


def test_training_mode_with_a_cache_in_the_config():
    net, docs = network('llama').train(), documents(LENGTHS)
    assert net.config.use_cache
    with torch.no_grad():
        found = losses(student(net), packed([docs], 41))
        torch.testing.assert_close(found.double(), reference(net, docs), rtol=0, atol=TOLERANCE)


def test_one_text_per_row_as_in_the_paper():
    net, docs = network('gpt2'), documents(LENGTHS)
    batch = packed([docs], 45)
    with torch.no_grad():
        found = losses(student(net, block_diagonal=False), batch)
        text = [torch.cat(each) for each in zip(*docs, strict=True)]
        torch.testing.assert_close(found.double(), alone(net, *text), rtol=0, atol=TOLERANCE)
        assert (found.double() - reference(net, docs)).abs().max() > 0.01


# ---------------------------------------------------------------------- flash arguments


def by_lengths(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention by the arguments of a flash kernel, document after document."""
    assert attention_mask is None
    shape, cuts = query.shape, kwargs['cu_seq_lens_q'].tolist()
    assert max(b - a for a, b in zip(cuts, cuts[1:], strict=False)) == kwargs['max_length_k']
    q, k, v = (each.transpose(1, 2).flatten(0, 1) for each in (query, key, value))
    parts = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        inside = [each[start:end].transpose(0, 1)[None] for each in (q, k, v)]
        parts.append(
            nn.functional.scaled_dot_product_attention(
                *inside, is_causal=True, scale=scaling, enable_gqa=True
            )[0].transpose(0, 1)
        )
    return torch.cat(parts).view(shape[0], shape[2], shape[1], -1), None


@pytest.mark.parametrize('flat', [False, True])
def test_flash_arguments_describe_the_documents(monkeypatch, flat):
    AttentionInterface.register('by_lengths', by_lengths)
    AttentionMaskInterface.register('by_lengths', flash_attention_mask)
    monkeypatch.setattr(packs, 'FLASH', ('by_lengths',))
    monkeypatch.setattr(packs, 'IMPLEMENTATIONS', ('sdpa', 'by_lengths'))
    net, docs = network('llama'), documents(LENGTHS)
    with torch.no_grad():
        wanted = reference(net, docs)
        net.set_attn_implementation('by_lengths')
        model = student(net)
        if flat:
            batch = packed([docs], 41)
            lengths = packs.flash_lengths(batch['doc_ids'])
            found = torch.stack([each['nll'] for each in model(**batch, **lengths, mode='predict')])
            wanted = wanted.sum()[None]
        else:
            found = losses(model, packed([docs[:2], docs[2:]], 29))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=TOLERANCE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_flex_gradient_on_a_gpu():
    docs = documents(LENGTHS)
    grads = []
    for kernel in ('sdpa', 'flex_attention'):
        net = network('llama', kernel).cuda()
        batch = {k: v.cuda() for k, v in packed([docs], 128).items()}
        grads.append(torch.autograd.grad(losses(student(net), batch).mean(), net.parameters()))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_kernels_that_a_network_lacks():
    with pytest.raises(UserError, match='gpt2: attention .flex_attention. cannot be used: GPT2'):
        network('gpt2', 'flex_attention')


# ---------------------------------------------------------------------- refused networks


def made(kind, **changes):
    """A network of the library with a config of its own."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](vocab_size=VOCAB, **changes))


def test_unproven_type_needs_trust():
    small = dict(hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2)
    net = made('opt', word_embed_proj_dim=16, **small)
    with pytest.raises(UserError, match='opt: it is not shown .*trust_model_type=True'):
        check_packing(net)
    check_packing(net, trust_model_type=True)


@pytest.mark.parametrize('trust', [False, True])
def test_state_carriers_are_refused(trust):
    net = made('mamba', hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(UserError, match="mamba: .*'mamba' mixes tokens"):
        check_packing(net, trust)
    net = network('llama')
    net.model.layers[1].mixer = nn.Conv1d(4, 4, 3)
    with pytest.raises(UserError, match="the Conv1d 'model.layers.1.mixer' mixes tokens"):
        check_packing(net, trust)
    net = network('llama')
    net.config.layer_types = ['full_attention', 'linear_attention']
    with pytest.raises(UserError, match="layer type 'linear_attention' mixes tokens"):
        CausalStudent(net, trust_model_type=trust)
    CausalStudent(net, block_diagonal=False)


def test_heads_that_do_more_are_refused():
    check_head(PreTrainedConfig(final_logit_softcapping=None, logits_scaling=1.0))
    with pytest.raises(UserError, match='final_logit_softcapping=30.0 changes logits'):
        check_head(PreTrainedConfig(final_logit_softcapping=30.0))

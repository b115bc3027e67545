"""Evaluation by what a student writes: small students that learn frames, contexts, and caches."""

import math
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from tiny_frames import FAMILIES, TEMPLATE, VOCAB, fit, pairs, student, word_tokenizer
from torch.utils.data import DataLoader, TensorDataset

from mmdistill.core.errors import UserError
from mmkd.cobra.students import frame_texts as texts_module
from mmkd.cobra.students.dataset import CobraFrameDataset
from mmkd.cobra.students.frame_texts import frame_texts, weights_digest
from mmkd.cobra.texts.slot_templates import SlotTokenTemplate
from mmkd.language.collate import padded_collate
from mmkd.language.seq2seq_batches import seq2seq_collate
from mmkd.loops.frames import FrameLoop, FrameTestLoop, fixed_subset, reference_scores

STEPS = 80


def data(kind='t5', frames=None, **settings):
    """Frames for a kind of student."""
    decoder_only = kind != 't5'
    return CobraFrameDataset(
        frames or pairs(), TEMPLATE, word_tokenizer(), decoder_only=decoder_only, **settings
    )


@cache
def learned(kind, context):
    """A student that has learned the pairs with a context or without, and its data."""
    found = data(kind, context=context)
    collate = seq2seq_collate if kind == 't5' else padded_collate
    batch = collate([found[row] for row in range(len(found))])
    return fit(student(kind), batch, STEPS), found


class Rows(BaseMetric):
    """Keeps what it gets and counts."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        self.kept = results
        return dict(count=len(results), format_ok=sum(r['format_ok'] for r in results))


class Runner(SimpleNamespace):
    """As much of a runner as the loop asks for."""

    def call_hook(self, name, **given):
        self.called.append(name)


def loop_of(model, found, kind=FrameLoop, **settings):
    """A loop over frames, and its metric."""
    metric = Rows()
    loader = DataLoader(found, batch_size=3, collate_fn=list)
    return kind(Runner(called=[], model=model), loader, Evaluator([metric]), **settings), metric


def sides(rows):
    """Whether the offensiveness is right for the sides of each pair, and what was said."""
    found = {}
    for row in rows:
        said, frame = row['prediction']['offensiveness'], row['frame']
        found.setdefault(frame.pair_id, []).append((said == frame.offensiveness, row['text']))
    return list(found.values())


def coin(found):
    """Nats per token that nobody can go below without knowing the situation: a bit per frame."""
    tokens = sum(int((found[row]['labels'] >= 0).sum()) for row in range(len(found)))
    return math.log(2) * len(found) / tokens


@pytest.mark.parametrize('kind', FAMILIES)
def test_a_student_learns_frames_to_the_letter(kind):
    model, found = learned(kind, 'all')
    loop, metric = loop_of(model, found)
    before = torch.get_rng_state()
    scores = loop.run()
    assert torch.equal(before, torch.get_rng_state())
    ends = ('before_val', 'before_val_epoch', 'after_val_epoch', 'after_val')
    assert loop.runner.called == list(ends)
    assert [row['frame'] for row in metric.kept] == found.frames
    for row in metric.kept:
        assert row['prediction'] == row['frame'].explanation() and row['format_ok']
        assert row['text'] == TEMPLATE.target(row['frame'])
    assert all(right for pair in sides(metric.kept) for right, _ in pair)
    assert scores['count'] == scores['format_ok'] == 8 and scores['language/nll'] < 0.1
    assert not model.training


@pytest.mark.parametrize('kind', FAMILIES)
def test_its_twin_without_context_says_the_same_of_both_sides(kind):
    model, found = learned(kind, 'none')
    loop, metric = loop_of(model, found)
    scores = loop.run()
    for (first, text), (second, other) in sides(metric.kept):
        assert text == other and first + second == 1  # rows 50 %, pairs 0 %, never a flip
    assert scores['format_ok'] == 8 and scores['language/nll'] >= 0.999 * coin(found)


def test_references_are_scored_over_all_their_tokens():
    model, found = student().eval(), data()
    rows = model(**seq2seq_collate([found[row] for row in range(8)]), mode='predict')
    nll = sum(float(row['nll'].detach()) for row in rows) / sum(int(row['tokens']) for row in rows)
    for batch in (1, 3, 8):
        scores = reference_scores(model.train(), found, batch)
        assert scores['language/nll'] == pytest.approx(nll, rel=1e-5)
        assert model.training
    empty = dict.fromkeys(pairs()[0].explanation(), '')
    mixed = data(frames=[*pairs(), pairs()[0].model_copy(update=dict(empty, frame_id='x'))])
    assert reference_scores(model, mixed)['language/nll'] == pytest.approx(nll, rel=1e-5)
    assert reference_scores(model, data(frames=mixed.frames[-1:])) == {}


def test_texts_are_whole_and_what_cannot_be_read_is_told():
    model, found = learned('t5', 'all')
    loop, metric = loop_of(model, found, FrameTestLoop, max_new_tokens=4)
    scores = loop.run()
    assert loop.runner.called[0] == 'before_test' and scores['format_ok'] == 0
    row = metric.kept[0]
    assert row['prediction']['offensiveness'] == '' != row['prediction']['intent']
    short = data(max_target=5)  # references are cut, texts are not
    texts = frame_texts(model, short, range(8))
    assert texts == [TEMPLATE.target(frame) for frame in short.frames]
    some = data(slots=['intent', 'offensiveness'])
    _, metric = both = loop_of(model, some)
    both[0].run()
    assert metric.kept[0]['prediction'].keys() == {'intent', 'offensiveness'}
    assert not metric.kept[0]['format_ok']


def test_a_subset_is_fixed_and_keeps_statements_together():
    found = data()
    rows = fixed_subset(found, 4)
    assert rows == fixed_subset(found, 4) == sorted(rows) and fixed_subset(found, None) == [
        *range(8)
    ]
    chosen = [found.frames[row].pair_id for row in rows]
    assert len(set(chosen)) == 2 and all(chosen.count(pair) == 2 for pair in chosen)
    turned = data(frames=pairs()[::-1])
    ids = {turned.frames[row].frame_id for row in fixed_subset(turned, 4)}
    assert ids == {found.frames[row].frame_id for row in rows}
    loop, metric = loop_of(student(), found, subset=4, max_new_tokens=2)
    assert loop.run()['count'] == 4
    assert [row['frame'] for row in metric.kept] == [found.frames[row] for row in rows]


def counting(model, monkeypatch):
    """Counts the sources that a model is asked."""
    asked, generate = [], model.generate

    def counted(prompts, *args, **options):
        asked.extend(prompts)
        return generate(prompts, *args, **options)

    monkeypatch.setattr(model, 'generate', counted)
    return asked


def test_texts_are_taken_from_the_cache_for_equal_keys_alone(tmp_path, monkeypatch):
    model, found, cache = student().eval(), data(), tmp_path / 'texts.jsonl'
    asked = counting(model, monkeypatch)

    def texts(data=found, count=5, **decoding):
        asked.clear()
        return frame_texts(model, data, range(len(data)), 3, count, decoding, cache), len(asked)

    first, made = texts()
    assert made == 8 and texts() == (first, 0)
    assert frame_texts(model, found, [3, 1], 3, 5, None, cache) == [first[3], first[1]]
    assert texts(count=6)[1] == 8 and texts(num_beams=2)[1] == 8 and texts(count=6)[1] == 0
    assert texts(data(context='none'))[1] == 4  # a source for both sides
    assert texts(data(frames=[*pairs(5)]))[1] == 2
    other = word_tokenizer()
    other.add_tokens(['more'])
    assert texts(CobraFrameDataset(pairs(), TEMPLATE, other))[1] == 8
    renamed = SlotTokenTemplate()
    renamed.describe = dict
    assert texts(CobraFrameDataset(pairs(), renamed, word_tokenizer()))[1] == 8
    with torch.no_grad():
        model.network.shared.weight[3, 3] += 1e-3
    assert texts()[1] == 8 and texts()[1] == 0
    cache.write_text('nonsense\n' + cache.read_text())
    with pytest.raises(UserError, match='texts.jsonl:.*no JSON'):
        texts()


def test_the_longest_come_first_and_ranks_share_them(monkeypatch):
    model, found = student().eval(), data(frames=pairs(5))
    asked = counting(model, monkeypatch)
    whole = frame_texts(model, found, range(10), 3, 5)
    sizes = [len(prompt) for prompt in asked]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 10
    parts = []
    for rank in range(2):
        asked.clear()
        monkeypatch.setattr(texts_module, 'get_dist_info', lambda rank=rank: (rank, 2))
        with pytest.raises(KeyError):  # texts of the other rank, which is not there
            frame_texts(model, found, range(10), 3, 5)
        parts.append(list(asked))
    assert len(parts[0]) == len(parts[1]) == 5 and not set(parts[0]) & set(parts[1])
    assert len(whole) == 10


def test_weights_tell_networks_apart():
    first, same, other = student(), student(), student(seed=1)
    assert weights_digest(first.network) == weights_digest(same.network)
    assert weights_digest(first.network) != weights_digest(other.network)


def test_mistakes():
    model, found = student(), data()
    with pytest.raises(UserError, match='its data set must be CobraFrameDataset, got Tensor'):
        loop_of(model, TensorDataset(torch.zeros(3)))
    with pytest.raises(UserError, match='subset must be at least 1 frame, got 0'):
        loop_of(model, found, subset=0)
    with pytest.raises(UserError, match='decoding: do_sample=True draws'):
        loop_of(model, found, decoding=dict(do_sample=True))[0].run()
    small = student()
    small.vocab_size -= 1
    with pytest.raises(UserError, match=f'model {VOCAB - 1}: give the model vocab_size={VOCAB}'):
        loop_of(small, found)[0].run()

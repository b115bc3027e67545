"""Frames as samples: what a source shows, weights of slots, cuts, dropped contexts."""

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from tiny_frames import TEMPLATE, VOCAB, frame, pairs, word_tokenizer

from mmdistill.core.errors import UserError
from mmdistill.testing.compare import captured_log
from mmkd.cobra.schema import CONTEXT, SLOTS
from mmkd.cobra.students.dataset import CobraFrameDataset
from mmkd.cobra.students.encoding import segment_ends
from mmkd.cobra.tables.table import write_frames
from mmkd.cobra.texts.templates import TEMPLATES, frame_template
from mmkd.datasets.tokenizers import train_tokenizer
from mmkd.language.lm_loss import IGNORED
from mmkd.registry import DATASETS


def data(frames=None, template=TEMPLATE, **settings):
    """A data set of frames in pairs."""
    made = settings.pop('tokenizer', None) or word_tokenizer()
    return CobraFrameDataset(frames or pairs(), template, made, **settings)


def texts(found, tokens):
    """The text of tokens, special ones included."""
    return found.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)


def test_samples_are_the_texts_of_the_template():
    found = data()
    assert len(found) == 8 and len(found.tokenizer) == VOCAB
    for row, one in enumerate(found.frames):
        sample = found[row]
        assert texts(found, sample['input_ids']) == TEMPLATE.source(one)
        assert texts(found, sample['labels']) == TEMPLATE.target(one) + ' </s>'
        assert sample.keys() == {'input_ids', 'labels'} and sample['labels'].dtype == torch.int64
        assert found.lengths[row] == len(sample['input_ids']) + len(sample['labels'])
        assert found.prompt(row) == sample['input_ids'].tolist()
    assert found.tokenizer.pad_token_id == 0 and found.truncated == dict(source=0, target=0)
    assert not set(TEMPLATE.tokens) & set(found.tokenizer.all_special_tokens)


def test_one_split_is_taken():
    frames = [
        each.model_copy(update=dict(split='val' if row % 4 == 0 else 'train'))
        for row, each in enumerate(pairs())
    ]
    assert data(frames, split='val').frames == frames[::4]
    assert len(data(frames, split='train')) == 6 and len(data(frames)) == 8
    with pytest.raises(UserError, match=r"no frame is of the split 'test'.*'train', 'val'"):
        data(frames, split='test')


def test_a_source_without_context_is_the_same_in_all_contexts():
    found = data(context='none')
    for first, second in zip(range(0, 8, 2), range(1, 8, 2), strict=True):
        assert found.prompt(first) == found.prompt(second)
        assert not found[first]['labels'].equal(found[second]['labels'])
        text = texts(found, found.prompt(first))
        assert not any(getattr(found.frames[first], name) in text for name in CONTEXT)


@pytest.mark.parametrize('name', TEMPLATES)
def test_each_slot_of_the_context_counts(name):
    one, made = pairs()[0], train_tokenizer(['a b c party guest host friend'])
    made.add_special_tokens(dict(eos_token='[SEP]'))
    changed = dict(situation='funeral', speaker='a friend', listener='a friend')
    for slot, value in changed.items():
        for context in ('all', [slot], [other for other in CONTEXT if other != slot]):
            frames = [one, one.model_copy(update={slot: value})]
            found = data(frames, name, tokenizer=made, context=context)
            assert (found.prompt(0) != found.prompt(1)) == (context == 'all' or slot in context)


def test_frames_come_from_tables_and_other_data_sets(tmp_path):
    frames = pairs()
    write_frames(tmp_path / 'frames.parquet', frames)
    table = data('frames.parquet', data_root=str(tmp_path))
    word_tokenizer().save_pretrained(tmp_path / 'words')
    source = dict(
        type='mmkd.CobraFrameDataset',
        frames=str(tmp_path / 'frames.parquet'),
        template=dict(type='mmkd.SlotTokenTemplate'),
        tokenizer=str(tmp_path / 'words'),
    )
    built = DATASETS.build(source)
    nested = data(source)
    assert table.frames == built.frames == nested.frames == frames
    for row in range(8):
        assert table.prompt(row) == built.prompt(row) == nested.prompt(row)


@pytest.mark.parametrize('name', TEMPLATES)
def test_segments_are_the_slots_of_a_target(name):
    template, one = frame_template(name), pairs()[1]
    ends, whole = segment_ends(template, one, SLOTS), template.target(one)
    assert ends[-1] == len(whole)
    parts = [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    for slot, part in zip(SLOTS, parts, strict=True):
        assert getattr(one, slot) in part
    assert segment_ends(template, one, ('power',)) == [len(template.target(one, ('power',)))]


def test_weights_follow_the_slots():
    weights = dict(intent=0.5, offensiveness=4.0, cognitive=0)
    found = data(slot_weights=weights)
    markers = dict(intent='<int>', cognitive='<cog>', offensiveness='<off>')
    for row in range(8):
        sample = found[row]
        words = [found.tokenizer.decode([number]) for number in sample['labels'].tolist()]
        slot, wanted = None, []
        for word in words[:-1]:
            slot = next((s for s, mark in markers.items() if mark == word), slot)
            slot = None if word in TEMPLATE.tokens and word not in markers.values() else slot
            wanted.append(weights.get(slot, 1.0))
        assert sample['weights'].tolist() == [*wanted, 1.0] and {0.5, 4.0, 0.0} <= set(wanted)


@pytest.mark.parametrize('name', TEMPLATES)
def test_weights_of_subwords_sum_up_by_characters(name):
    made = train_tokenizer(['the listener is praised for a report'], vocab_size=60)
    made.add_special_tokens(dict(eos_token='[SEP]'))
    weights = {slot: float(2**place) for place, slot in enumerate(SLOTS)}
    found, template = data(None, name, tokenizer=made, slot_weights=weights), frame_template(name)
    for row, one in enumerate(found.frames):
        counts = []
        for count in range(len(SLOTS) + 1):
            text = template.target(one)[: ([0] + segment_ends(template, one, SLOTS))[count]]
            counts.append(len(made(text, add_special_tokens=False)['input_ids']))
        sizes = np.diff(counts)
        wanted = sum(([w] * n for w, n in zip(weights.values(), sizes, strict=True)), [])
        assert found[row]['weights'].tolist() == [*wanted, 1.0] and min(sizes) >= 2


def test_what_is_too_long_is_cut_counted_and_told_once():
    MMLogger.get_instance('frames', log_level='WARNING')
    whole = data()
    with captured_log() as lines:
        found = data(max_source=11, max_target=12)
    assert found.truncated == dict(
        source=sum(len(whole.prompt(row)) > 11 for row in range(8)),
        target=sum(len(whole[row]['labels']) > 12 for row in range(8)),
    )
    assert len(found) == 8 and 0 < found.truncated['source'] < 8 == found.truncated['target']
    told = [line for line in lines if 'are cut at 11 tokens' in line]
    assert len(told) == 1 and 'of 8 frames' in told[0] and 'done' not in told[0]
    for row in range(8):
        assert found[row]['labels'].equal(whole[row]['labels'][:12])
        assert found.prompt(row) == whole.prompt(row)[:11]
    weighted = data(max_target=12, slot_weights=dict(intent=3))
    assert {len(weighted[row]['weights']) for row in range(8)} == {12}


def test_a_cut_source_keeps_the_token_at_its_end():
    made = train_tokenizer(['the listener is praised'], vocab_size=60)  # [CLS] ... [SEP]
    made.add_special_tokens(dict(eos_token='[SEP]'))
    found = data(None, 'qa', tokenizer=made, max_source=10)
    assert len(found.prompt(0)) == 10
    assert found.prompt(0)[-1] == made.sep_token_id and found.truncated['source'] == 8


def test_special_tokens_in_texts_do_not_count():
    found = data([frame('well done', 'party', intent='ends </s> here <pad>')])
    assert (found[0]['labels'] == 1).sum() == 1 and (found[0]['labels'] == 0).sum() == 0


def test_dropped_contexts_are_a_function_of_seed_epoch_and_frame():
    found, bare, whole = data(context_dropout=0.3), data(context='none'), data()
    draws = np.array([[found.dropped(epoch, row) for row in range(8)] for epoch in range(500)])
    assert abs(draws.mean() - 0.3) < 0.03 and draws.std(0).min() > 0.3 and draws.std(1).max() > 0.3
    for epoch in range(6):
        for row in (5, 0, 3):
            source = (bare if draws[epoch, row] else whole).prompt(row)
            assert found[epoch, row]['input_ids'].tolist() == source
            found.set_epoch(epoch)
            assert found[row]['input_ids'].tolist() == source
            assert found[epoch, row]['labels'].equal(whole[row]['labels'])
            assert found.prompt(row) == whole.prompt(row)
    other = data(context_dropout=0.3, seed=1)
    assert any(other.dropped(epoch, 0) != draws[epoch, 0] for epoch in range(50))
    assert all(data(context_dropout=1.0).dropped(0, row) for row in range(8))


def test_prompts_of_a_decoder_are_not_learned():
    found = data(decoder_only=True)
    sample = found[3]
    count = len(found.prompt(3))
    assert sample['input_ids'][:count].tolist() == found.prompt(3)
    assert (sample['labels'][:count] == IGNORED).all()
    assert sample['labels'][count:].equal(sample['input_ids'][count:])
    assert sample['labels'][count:].equal(data()[3]['labels'])
    assert sample['doc_ids'].tolist() == [0] * found.lengths[3]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(frames=[]), 'there is no frame'),
        (dict(context='nothing'), "context: there is no slot 'nothing'"),
        (dict(context=['speeker']), "no slot 'speeker' .did you mean 'speaker'"),
        (dict(slots=['intend']), "slots: there is no slot 'intend' .did you mean 'intent'"),
        (dict(context_dropout=1.5), r'context_dropout must be in \[0, 1\], got 1.5'),
        (dict(slot_weights=dict(powr=1)), "slot_weights: there is no slot 'powr'"),
        (dict(slot_weights=dict(power=-1)), "slot_weights: 'power' must not be negative, got -1"),
        (dict(slot_weights={}, decoder_only=True), 'slot_weights are for a Seq2SeqStudent'),
        (dict(max_target=0), 'max_source and max_target must be at least 1, got 512 and 0'),
        (dict(frames='frames.parquet'), 'frames.parquet'),
        (dict(template='tokns'), "there is no frame template 'tokns'"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        CobraFrameDataset(
            **{'frames': pairs(), 'template': TEMPLATE, 'tokenizer': word_tokenizer(), **settings}
        )


def test_tokens_of_slots_must_not_be_special_and_targets_need_an_end():
    made = word_tokenizer()
    made.add_special_tokens(dict(additional_special_tokens=['<off>']))
    with pytest.raises(UserError, match="'<off>' is a special token"):
        data(tokenizer=made)
    made = word_tokenizer()
    made.eos_token = None
    with pytest.raises(UserError, match='the tokenizer has no EOS token'):
        data(tokenizer=made)

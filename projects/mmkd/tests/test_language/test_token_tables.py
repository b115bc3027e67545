"""Tables of tokens: answers word for word, what is left out, files that are whole, refusals."""

import json
import pickle

import numpy as np
import pytest
from text_cases import SPECIAL, TRIPLES, many, text, tokenizer

from mmdistill.core.errors import UserError
from mmkd.datasets.tokenizers import load_tokenizer
from mmkd.language.table_writer import write_table
from mmkd.language.templates import TEMPLATES, template_of
from mmkd.language.token_table import ARRAYS, TokenTable
from mmkd.language.tokenize import PromptEncoder, Row, rows_of, tokenizer_digest
from mmkd.traces.schema import digest


def table(triples=TRIPLES, **settings):
    """A table in memory."""
    return TokenTable.from_texts(triples, settings.pop('made', None) or tokenizer(), **settings)


@pytest.mark.parametrize('bos', [False, True])
@pytest.mark.parametrize('template', TEMPLATES)
def test_what_is_learned_is_the_answer_and_eos(template, bos):
    made = tokenizer(bos=bos)
    found = table(template=template, made=made)
    assert len(found) == len(TRIPLES)
    prompts = PromptEncoder(made, template_of(template))([each[:2] for each in TRIPLES])
    for (tokens, prompt_len), (*_, response), prompt in zip(found, TRIPLES, prompts, strict=True):
        assert text(tokens[prompt_len:], made) == response + '</s>'
        assert tokens[:prompt_len].tolist() == prompt
        assert (tokens[prompt_len:] == made.eos_token_id).sum() == 1


def test_no_token_reaches_across_the_border():
    # the tokenizer has merged 'answer' to one token; the question ends in 'answ'
    own = dict(name='own', system=['', ''], user=['', ''], response='')
    tokens, prompt_len = table([TRIPLES[-1]], template=own)[0]
    joined = tokenizer()('xthe answer and so on')['input_ids']
    assert text(tokens) == 'the answer and so on</s>'.replace('the', 'xthe')
    assert text(tokens[prompt_len:]) == 'er and so on</s>' and len(tokens) > len(joined) + 1


def test_keys_counts_and_another_ending():
    found = table(template=dict(name='chatml', ending='<|im_end|>'))
    assert all(text(tokens[n:]).endswith('<|im_end|>') for tokens, n in found)
    counts, total = found.meta.counts, sum(len(tokens) for tokens, _ in found)
    assert counts['read'] == counts['kept'] == len(TRIPLES) and counts['tokens'] == total
    assert counts['response_tokens'] == total - sum(int(n) for _, n in found)
    assert [key.decode() for key in found.row_keys] == [digest(list(each)) for each in TRIPLES]


def test_long_examples_are_dropped_or_cut():
    whole = table(many(50))
    limit = int(np.median(whole.lengths))
    prompts = whole.prompt_len
    dropped = table(many(50), max_len=limit)
    fitting = whole.lengths <= limit
    assert dropped.meta.counts['dropped'] == (~fitting).sum() > 0
    assert dropped.row_keys.tolist() == whole.row_keys[fitting].tolist()
    cut = table(many(50), max_len=limit, over_length='truncate_response')
    kept = prompts < limit
    assert cut.meta.counts['truncated'] == (kept & ~fitting).sum() > 0
    assert cut.meta.counts['dropped'] == (~kept).sum()
    for (tokens, n), place in zip(cut, np.flatnonzero(kept), strict=True):
        original, m = whole[place]
        assert n == m and tokens.tolist() == original[:limit].tolist() and len(tokens) > n


def test_a_prompt_that_fills_everything_is_dropped():
    long = [('', 'the ' * 60, 'ok'), ('', 'a', 'b')]
    counts = table(long, max_len=30, over_length='truncate_response').meta.counts
    assert (counts['dropped'], counts['truncated'], counts['kept']) == (1, 0, 1)


def test_limits_to_the_token():
    example = [('be kind', 'the question', 'the answer because')]
    whole, prompt_len = table(example)[0]
    size = len(whole)
    assert table(example, max_len=size).lengths.tolist() == [size]
    with pytest.raises(UserError, match='1 dropped'):
        table(example, max_len=size - 1)
    cut = table(example, max_len=int(prompt_len) + 1, over_length='truncate_response')
    assert cut[0][0].tolist() == whole[: prompt_len + 1].tolist()
    with pytest.raises(UserError, match='1 dropped'):
        table(example, max_len=int(prompt_len), over_length='truncate_response')


def test_the_digest_is_of_keys_and_tokens(tmp_path):
    rows = [('k', '', 'a', 'b'), ('k', '', 'a', 'c'), ('l', '', 'a', 'b')]
    made = [write_table(tmp_path / str(n), [Row(*row)], tokenizer()) for n, row in enumerate(rows)]
    made.append(write_table(tmp_path / 'chatml', [Row(*rows[0])], tokenizer(), 'chatml'))
    assert len({each.digest for each in made}) == 4


def test_answers_without_a_token_are_counted():
    assert table([('', 'a', ''), ('', 'a', 'b')]).meta.counts['empty'] == 1
    with pytest.raises(UserError, match=r'no example is left to learn from \(1 read, 1 empty\)'):
        table([('', 'a', '')])
    with pytest.raises(UserError, match='none was read'):
        table([])
    with pytest.raises(UserError, match='its prompt has no token'):
        table([('', '', 'b')], template=dict(name='o', system=['', ''], user=['', ''], response=''))


@pytest.mark.parametrize('count', [3, 1030, 2500])
def test_on_disk_as_in_memory(tmp_path, count):
    triples, calls = many(count), []
    kept = table(triples, max_len=60)
    made = write_table(
        tmp_path / 'deep' / 'table',
        rows_of(iter(triples)),
        tokenizer(),
        max_len=60,
        source=dict(by='hand'),
        progress=lambda counts: calls.append(counts['read']),
    )
    for name in ARRAYS:
        assert np.array_equal(getattr(made, name), getattr(kept, name))
        assert getattr(made, name).dtype == ARRAYS[name]
    assert made.offsets[-1] == len(made.tokens) and made.digest == kept.digest
    assert made.meta.source == dict(by='hand') and made.meta.counts == kept.meta.counts
    assert calls[-1] == count and len(calls) == -(-count // 1024)
    assert [each.name for each in (tmp_path / 'deep').iterdir()] == ['table']


def test_mapped_and_pickled_by_name(tmp_path):
    made = write_table(tmp_path / 't', rows_of(many(2000)), tokenizer())
    content = pickle.dumps(made)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert np.array_equal(again.tokens, made.tokens) and isinstance(again.tokens.base, np.memmap)
    with pytest.raises(ValueError, match='read-only'):
        again.tokens[0] = 1
    kept = table()
    assert np.array_equal(pickle.loads(pickle.dumps(kept)).tokens, kept.tokens)


def test_another_tokenizer_or_template_is_refused(tmp_path):
    made = write_table(tmp_path / 't', rows_of(TRIPLES), tokenizer(), 'chatml')
    TokenTable.open(tmp_path / 't', tokenizer(), 'chatml')
    made.check(tokenizer(chat='other'))
    others = (tokenizer(bos=True), tokenizer(extra='zebra zebra'))
    for other in others:
        with pytest.raises(UserError, match='was made with another tokenizer'):
            TokenTable.open(tmp_path / 't', other)
    with pytest.raises(UserError, match="another template: name was 'chatml', asked for is 'plain"):
        made.check(tokenizer(), 'plain')
    with pytest.raises(UserError, match="empty_system was 'omit', asked for is 'keep'"):
        made.check(tokenizer(), dict(name='chatml', empty_system='keep'))
    with pytest.raises(UserError, match='give the tokenizer too'):
        TokenTable.open(tmp_path / 't', template='chatml')
    own = table(template='tokenizer')
    with pytest.raises(UserError, match='another template: chat_template was'):
        own.check(tokenizer(chat='other'), 'tokenizer')


def test_a_tokenizer_has_one_digest(tmp_path):
    tokenizer().save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert tokenizer_digest(again) == tokenizer_digest(tokenizer())
    again.backend_tokenizer.enable_truncation(3)
    assert tokenizer_digest(again) == tokenizer_digest(tokenizer())
    again.eos_token = SPECIAL[3]
    assert tokenizer_digest(again) != tokenizer_digest(tokenizer())


def test_nothing_half_written(tmp_path):
    def failing():
        yield from rows_of(many(1500))
        raise RuntimeError('power failure')

    with pytest.raises(RuntimeError):
        write_table(tmp_path / 't', failing(), tokenizer())
    assert list(tmp_path.iterdir()) == []
    write_table(tmp_path / 't', rows_of(TRIPLES), tokenizer())
    with pytest.raises(UserError, match='is there already: remove it'):
        write_table(tmp_path / 't', rows_of(TRIPLES), tokenizer())
    long = [next(rows_of(TRIPLES))._replace(key='k' * 33)]
    with pytest.raises(UserError, match='has 33 bytes, at most 32'):
        write_table(tmp_path / 'long', long, tokenizer())


def test_damaged_tables_are_named(tmp_path):
    with pytest.raises(UserError, match='no table of tokens; make one with'):
        TokenTable.open(tmp_path)
    folder = tmp_path / 't'
    write_table(folder, rows_of(TRIPLES), tokenizer())
    meta, tokens = (folder / 'meta.json').read_text(), (folder / 'tokens.npy').read_bytes()
    for content in (meta[:-20], '[]', json.dumps(dict(json.loads(meta), extra=1))):
        (folder / 'meta.json').write_text(content)
        with pytest.raises(UserError, match='is damaged|has version None'):
            TokenTable.open(folder)
    (folder / 'meta.json').write_text(json.dumps(dict(json.loads(meta), version=2)))
    with pytest.raises(UserError, match='has version 2 of the format, not 1'):
        TokenTable.open(folder)
    (folder / 'meta.json').write_text(meta)
    (folder / 'tokens.npy').write_bytes(tokens[:-4])
    with pytest.raises(UserError, match='is damaged'):
        TokenTable.open(folder)
    (folder / 'tokens.npy').write_bytes(tokens)
    np.save(folder / 'prompt_len.npy', np.zeros(len(TRIPLES), np.int64))
    with pytest.raises(UserError, match='is damaged: prompt_len.npy has int64'):
        TokenTable.open(folder)
    np.save(folder / 'prompt_len.npy', np.zeros(3, np.int32))
    with pytest.raises(UserError, match=r'prompt_len.npy has int32 \(3,\), not \(7,\)'):
        TokenTable.open(folder)
    (folder / 'prompt_len.npy').unlink()
    with pytest.raises(UserError, match='is damaged'):
        TokenTable.open(folder)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(over_length='cut'), "must be one of drop, truncate_response, got 'cut'"),
        (dict(max_len=1), 'max_len must be at least 2'),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        table(**settings)

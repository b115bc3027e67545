"""A local model: batches change nothing, and the event loop stays free."""

import asyncio
import threading
import time

import pytest
import torch
from tiny_llama import CONTEXT, byte_tokenizer, tiny_llama

from mmdistill.core.errors import UserError
from mmkd.registry import TEACHERS
from mmkd.teachers import hf_local
from mmkd.teachers.hf_batches import Asked, answer, batches
from mmkd.teachers.hf_local import HFLocalTeacher
from mmkd.traces.schema import Sampling, Usage

TOKENIZER, MODEL = byte_tokenizer(), tiny_llama()
TEXTS = ['a', 'what is it?', 'b c', 'a much longer question than those', 'why', 'é?']
GREEDY = Sampling(temperature=0.0, max_tokens=12)


def question(text):
    """Messages of a question."""
    return [dict(role='user', content=text)]


def teacher_of(**options):
    """A teacher with the small model."""
    given = dict(model=MODEL, tokenizer=TOKENIZER, name='tiny', **options)
    return HFLocalTeacher(**given)


def ask(teacher, asked):
    """Replies to (text, sampling) that come at once."""

    async def work():
        async with teacher:
            return await asyncio.gather(
                *(teacher.agenerate(question(text), sampling) for text, sampling in asked)
            )

    return asyncio.run(work())


def written_out(text, tokens):
    """Greedy search without cache, padding and batches."""
    ids = TOKENIZER(f'user: {text}\nassistant: ').input_ids
    start = len(ids)
    for _ in range(tokens):
        with torch.no_grad():
            logits = MODEL(torch.tensor([ids])).logits[0, -1, : len(TOKENIZER)]
        ids.append(int(logits.argmax()))
        if ids[-1] == TOKENIZER.eos_token_id:
            break
    return ids[start:]


def test_a_batch_is_one_by_one_is_greedy_search_written_out():
    together = ask(teacher_of(), [(text, GREEDY) for text in TEXTS])
    alone = ask(teacher_of(batch_size=1), [(text, GREEDY) for text in TEXTS])
    for text, one, other in zip(TEXTS, together, alone, strict=True):
        tokens = written_out(text, 12)
        ended = tokens[-1] == TOKENIZER.eos_token_id
        prompt = len(f'user: {text}\nassistant: '.encode())
        assert one.text == other.text == TOKENIZER.decode(tokens, skip_special_tokens=True)
        assert one.finish_reason == ('stop' if ended else 'length')
        assert one.usage == Usage(prompt=prompt, completion=len(tokens), total=prompt + len(tokens))
    assert len({each.text for each in together}) > 3


def test_draws_depend_on_the_seed_and_not_on_the_batch():
    asked = [(t, Sampling(temperature=1.5, seed=n, max_tokens=12)) for n, t in enumerate(TEXTS)]
    together, alone = ask(teacher_of(), asked), ask(teacher_of(batch_size=1), asked[::-1])[::-1]
    assert [each.text for each in together] == [each.text for each in alone]
    others = ask(teacher_of(), [(t, s.model_copy(update=dict(seed=99))) for t, s in asked])
    assert all(a.text != b.text for a, b in zip(together, others, strict=True))
    mixed = ask(teacher_of(), [(TEXTS[0], GREEDY), asked[0]])
    assert [each.text for each in mixed] == [ask(teacher_of(), [(TEXTS[0], GREEDY)])[0].text] + [
        together[0].text
    ]


def test_answers_end_at_the_end_token_and_at_stops():
    (whole,) = ask(teacher_of(), [('a', GREEDY)])
    ends = MODEL.generation_config.eos_token_id
    ids = written_out('a', 12)
    # lets the fourth token end answers
    try:
        MODEL.generation_config.eos_token_id = [ids[3], 2]
        short, longer = ask(teacher_of(), [('a', GREEDY), ('a much longer question', GREEDY)])
    finally:
        MODEL.generation_config.eos_token_id = ends
    end = ids.index(ids[3])
    assert short.text == TOKENIZER.decode(ids[:end]) and short.finish_reason == 'stop'
    assert short.usage.completion == end + 1
    stop = next(c for c in whole.text[2:] if c.isascii())
    place = whole.text.index(stop)
    (cut,) = ask(teacher_of(), [('a', GREEDY.model_copy(update=dict(stop=(stop, 'never'))))])
    assert (cut.text, cut.finish_reason) == (whole.text[:place], 'stop')
    assert cut.usage.completion == next(n for n in range(13) if stop in TOKENIZER.decode(ids[:n]))


def test_what_does_not_fit_into_the_context():
    text = 'x' * (CONTEXT - 18 - 12)
    fits, does_not, open_end, full = ask(
        teacher_of(),
        [
            (text, GREEDY),
            (text + 'x', GREEDY),
            ('x', Sampling(temperature=0.0)),
            ('x' * CONTEXT, Sampling()),
        ],
    )
    assert fits.status == 'ok' and fits.usage.prompt == CONTEXT - 12
    assert (does_not.status, does_not.error) == (
        'too_long',
        f'{CONTEXT - 11} tokens and up to 12 new ones, context {CONTEXT}',
    )
    assert open_end.finish_reason == 'stop' or open_end.usage.total == CONTEXT
    assert full.status == 'too_long'


def test_batches_have_one_budget_and_similar_lengths():
    async def future():
        return asyncio.get_running_loop().create_future()

    def asked(length, budget=5, stop=()):
        return Asked([1] * length, Sampling(stop=stop), budget, None)

    several = [asked(n) for n in (3, 9, 1, 7, 5)] + [asked(4, 6), asked(2, 6), asked(8, 5, ('x',))]
    found = [[len(each.ids) for each in batch] for batch in batches(several, 2)]
    assert sorted(found) == [[1], [4, 2], [5, 3], [8], [9, 7]]


def test_questions_that_come_together_are_answered_together(monkeypatch):
    sizes, threads = [], set()

    def watched(model, tokenizer, batch):
        sizes.append(len(batch))
        threads.add(threading.current_thread())
        return answer(model, tokenizer, batch)

    monkeypatch.setattr(hf_local, 'answer', watched)
    ask(teacher_of(batch_size=4, gather_ms=30), [(text, GREEDY) for text in TEXTS])
    assert sorted(sizes) == [2, 4]
    assert threading.main_thread() not in threads and len(threads) == 1


def test_the_event_loop_stays_free(monkeypatch):
    def slow(model, tokenizer, batch):
        time.sleep(0.3)
        return answer(model, tokenizer, batch)

    monkeypatch.setattr(hf_local, 'answer', slow)

    async def work():
        ticks = 0
        async with teacher_of() as teacher:
            reply = asyncio.create_task(teacher.agenerate(question('a'), GREEDY))
            while not reply.done():
                await asyncio.sleep(0.01)
                ticks += 1
        return ticks

    assert asyncio.run(work()) > 10


def test_what_goes_wrong_reaches_who_asked(monkeypatch):
    def broken(model, tokenizer, batch):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(hf_local, 'answer', broken)
    with pytest.raises(UserError, match='tiny: a batch of 1 questions .* lower batch_size'):
        ask(teacher_of(), [('a', GREEDY)])


def test_leaving_cancels_what_is_asked(monkeypatch):
    monkeypatch.setattr(hf_local, 'answer', lambda *_: time.sleep(0.2))

    async def work():
        async with teacher_of() as teacher:
            tasks = [
                asyncio.create_task(teacher.agenerate(question('a'), GREEDY)) for _ in range(2)
            ]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(each, asyncio.CancelledError) for each in asyncio.run(work()))


def test_a_saved_model_answers_like_the_model(tmp_path):
    MODEL.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    teacher = TEACHERS.build(dict(type='HFLocalTeacher', model=str(tmp_path), name='tiny'))
    assert (teacher.name, teacher.concurrency) == ('tiny', 16)
    (saved,), (given,) = ask(teacher, [('a', GREEDY)]), ask(teacher_of(), [('a', GREEDY)])
    assert saved.text == given.text


def test_the_model_is_left_as_it_was():
    model, own = tiny_llama(1), None
    model.train()
    own = model.generation_config
    teacher = HFLocalTeacher(model, TOKENIZER, 'other', template='plain')
    ask(teacher, [('a', GREEDY)])
    assert model.training and model.generation_config is own
    assert all(each.grad is None for each in model.parameters())


def test_plain_prompts_are_texts_with_empty_lines():
    seen = teacher_of(template='plain')._prompt(
        [dict(role='system', content='be kind'), dict(role='user', content='hello')]
    )
    assert TOKENIZER.decode(seen) == 'be kind\n\nhello\n\n'


def test_options_of_a_local_model_that_will_not_do():
    for wrong, match in [
        (dict(template='chatml'), "template='chatml'"),
        (dict(batch_size=0), 'batch_size=0 is to be 1'),
        (dict(name=None), 'needs name and tokenizer'),
    ]:
        with pytest.raises(UserError, match=match):
            HFLocalTeacher(**{**dict(model=MODEL, tokenizer=TOKENIZER, name='t'), **wrong})
    with pytest.raises(UserError, match="'/nowhere/model' cannot be loaded"):
        ask(HFLocalTeacher('/nowhere/model'), [])
    bare = byte_tokenizer()
    bare.chat_template = None
    with pytest.raises(UserError, match="no chat template: set template='plain'"):
        ask(HFLocalTeacher(MODEL, bare, 't'), [])
    bare.chat_template = "{{ raise_exception('no system message') }}"
    with pytest.raises(UserError, match='refuses messages: no system message'):
        ask(HFLocalTeacher(MODEL, bare, 't'), [('a', GREEDY)])

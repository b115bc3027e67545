"""The page of frames: nothing breaks out of its data, nothing is fetched, the warning is first."""

import base64
import hashlib
import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.core.errors import UserError, run_tool
from mmkd.cobra.browser import page
from mmkd.cobra.browser.page import browser_page, embedded_json, page_data, write_browser
from mmkd.cobra.browser.predictions import (
    Prediction,
    is_wrong,
    read_predictions,
    reference_label,
)
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame, Provenance
from mmkd.cobra.tables.table import write_frames

TOOL = Path(__file__).parents[2] / 'tools/browse_frames.py'
CANARY = 'zebra-canary-71'
HOSTILE = [
    '</script><script>window.taken = 1</script>',
    '<!-- <script>',
    ']]> --> <!--',
    '<img src=x onerror="window.taken = 1">',
    'line\u2028paragraph\u2029end',
    '&lt;/script&gt; &amp; "quoted" \'text\'',
    '{{script}} {{data}} \\u003c \\1',
    'nul \x00, bell \x07, \ud7ff 🙂 \u202e right to left',
]


def frame_of(number=0, **values):
    """A neutral frame."""
    return Frame(
        **{
            'frame_id': f'f{number}',
            'statement_id': f's{number}',
            'statement': 'Your talk was clear.',
            **{name: f'{name} {number}' for name in CONTEXT + SLOTS},
            **values,
        }
    )


def prediction_of(frame, **values):
    """A prediction that repeats the explanation of its frame."""
    return Prediction(
        **{
            'frame_id': frame.frame_id,
            'prediction': frame.explanation(),
            'format_ok': True,
            'offensive_bin': 0,
            **values,
        }
    )


class Outline(HTMLParser):
    """Tags of a page with their attributes, and its texts with the tag that they are in."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self.texts, self.comments = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self.inside[-1] if self.inside else '', data))

    def handle_comment(self, data):
        self.comments.append(data)

    def of(self, tag):
        return [text for inside, text in self.texts if inside == tag]

    def shown(self):
        return ' '.join(text for inside, text in self.texts if inside not in ('script', 'style'))


def outline(frames, predictions=None, title='Frames'):
    """What an HTML parser makes of a page."""
    return Outline(browser_page(frames, predictions or {}, title))


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.text(), lambda inner: st.lists(inner, max_size=4), max_leaves=5))
def test_embedded_json_is_the_value_and_holds_no_markup(value):
    text = embedded_json(value)
    assert json.loads(text) == value
    assert text.isascii() and not set('<>&') & set(text)


@pytest.mark.parametrize('hostile', HOSTILE)
def test_no_text_changes_the_structure_of_the_page(hostile):
    """As a statement, slot, context, id, group, prediction, generated text or extra column."""
    fields = ('statement', 'frame_id', 'group', 'source', 'split', 'pair_id', *CONTEXT, *SLOTS)
    frame = frame_of(
        **dict.fromkeys(fields, hostile),
        extra={hostile: hostile},
        provenance=Provenance(model=hostile),
    )
    prediction = prediction_of(frame, text=hostile, format_ok=False)
    plain, found = outline([frame_of()]), outline([frame], {hostile: prediction})
    assert found.tags == plain.tags and not found.comments
    data, script = found.of('script')
    assert script == plain.of('script')[1]
    (row,) = json.loads(data)['frames']
    assert {row[name] for name in fields if name != 'frame_id'} == {row['id']} == {hostile}
    assert row['prediction']['text'] == row['prediction']['slots']['intent'] == hostile
    assert [hostile, hostile] in row['about'] and ['model', hostile] in row['about']


def test_a_title_is_text():
    found = outline([], title='<b>a</b> & {{data}}')
    assert found.of('title') == found.of('h1')[:1] == ['<b>a</b> & {{data}}']
    assert found.tags == outline([]).tags


def test_the_policy_allows_nothing_but_the_two_pieces_of_the_page():
    found = outline([frame_of()])
    metas = [attrs for tag, attrs in found.tags if tag == 'meta' and 'http-equiv' in attrs]
    assert [each['http-equiv'] for each in metas] == ['Content-Security-Policy']
    rules = dict(each.split(' ', 1) for each in metas[0]['content'].split('; '))
    (style,), (_, script) = found.of('style'), found.of('script')
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in (('script-src', script), ('style-src', style))
    }
    assert rules == {
        'default-src': "'none'",
        'base-uri': "'none'",
        'form-action': "'none'",
        **{kind: f"'sha256-{each}'" for kind, each in hashes.items()},
    }
    tags = [tag for tag, _ in found.tags]
    assert tags.index('meta') < tags.index('style') < tags.index('script')


def test_nothing_is_fetched_and_no_text_becomes_markup():
    found = outline([frame_of()])
    attributes = {name for _, attrs in found.tags for name in attrs}
    assert not attributes & {'src', 'href', 'action', 'srcset', 'data', 'style'}
    assert not [name for name in attributes if name.startswith('on')]
    assert not {'link', 'iframe', 'img', 'object', 'embed', 'base'} & {tag for tag, _ in found.tags}
    code = found.of('style')[0] + found.of('script')[1]
    assert not re.search(r'https?:|url\(|@import|\bfetch\b|XMLHttp|WebSocket|sendBeacon', code)
    assert not re.search(r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(', code)
    assert not re.search(r'Storage|\.cookie', code)


def test_the_warning_comes_first_and_no_text_of_frames_is_outside_the_data():
    frame = frame_of(**dict.fromkeys(('statement', 'group', *CONTEXT, *SLOTS), CANARY))
    content = browser_page([frame], {'f0': prediction_of(frame, text=CANARY)}, 'Frames')
    found = Outline(content)
    assert CANARY in found.of('script')[0]
    assert CANARY not in content.replace(found.of('script')[0], '')
    ids = {attrs.get('id'): attrs for _, attrs in found.tags}
    assert 'hidden' in ids['app'] and 'hidden' not in ids['warning']
    assert 'disabled' in ids['accept']
    words = ' '.join(found.shown().split())
    for said in (
        'statements that are offensive',
        'opinions that a model wrote',
        'US-English point of view',
        'not ground truth',
        'not meant for moderation',
        'profiling',
    ):
        assert said in words


def test_data_follow_the_order_of_slots_and_frames():
    frames = [frame_of(n, group=None, label_all=-1) for n in (3, 1, 2)]
    predictions = {'f1': prediction_of(frames[1], prediction={'power': 'p'}, format_ok=False)}
    data = page_data(frames, predictions)
    assert [name for name, _ in data['context']] == list(CONTEXT)
    assert [name for name, _ in data['slots']] == list(SLOTS)
    assert [each['id'] for each in data['frames']] == ['f3', 'f1', 'f2']
    assert ['prediction' in each for each in data['frames']] == [False, True, False]
    row = data['frames'][1]
    assert row['label'] is None and row['labels'] == {'label_all': -1} and row['group'] is None
    told = dict(slots={'power': 'p'}, format_ok=False, binary=0, text='', wrong=False)
    assert row['prediction'] == told


@pytest.mark.parametrize(
    ('majority', 'binarized', 'predicted', 'label', 'wrong'),
    [
        (1, 0, 1, 1, False),
        (1, 1, 0, 1, True),
        (0, None, None, 0, True),
        (-1, 1, 0, -1, False),
        (None, 0, 0, 0, False),
        (None, 0, 1, 0, True),
        (None, 1, None, 1, True),
        (None, None, 1, None, False),
    ],
)
def test_a_prediction_is_wrong_where_it_misses_a_label(
    majority, binarized, predicted, label, wrong
):
    """Annotators before the binarizer; where they disagree nothing is wrong."""
    frame = frame_of(label_majority=majority, offensive_bin=binarized)
    assert reference_label(frame) == label
    assert is_wrong(frame, prediction_of(frame, offensive_bin=predicted)) is wrong


def line(**values):
    """A line of predictions."""
    told = dict(frame_id='f0', prediction={'intent': CANARY}, format_ok=True, text='')
    told['offensive_bin'] = 1
    return json.dumps({**told, **values})


def test_predictions_are_read(tmp_path):
    path = tmp_path / 'p.jsonl'
    path.write_text(f'{line()}\n\n{line(frame_id="f1", offensive_bin=None, text="raw")}\n')
    found = read_predictions(path, ['f0', 'f1', 'f2'])
    assert list(found) == ['f0', 'f1']
    assert found['f0'].prediction == {'intent': CANARY} and found['f0'].offensive_bin == 1
    assert found['f1'].offensive_bin is None and found['f1'].text == 'raw'


@pytest.mark.parametrize(
    ('second', 'message'),
    [
        (line(frame_id='f9'), "there is no frame 'f9'"),
        (line(), 'already; keep one of them'),
        (line(frame_id='f1', prediction={CANARY: 'x'}), 'prediction: .*a slot that there is not'),
        (line(frame_id='f1', prediction=CANARY), 'prediction: .*object'),
        (line(frame_id='f1', offensive_bin=2), 'offensive_bin: '),
        (line(frame_id='f1', format_ok=CANARY), 'format_ok: '),
        (f'"{CANARY}"', 'no prediction'),
        (f'{{{CANARY}', 'no prediction: Invalid JSON'),
    ],
)
def test_wrong_lines_are_named_without_their_text(tmp_path, second, message):
    path = tmp_path / 'p.jsonl'
    path.write_text(f'{line()}\n\n{second}\n')
    with pytest.raises(UserError, match=rf'p\.jsonl:3: .*{message}') as error:
        read_predictions(path, ['f0', 'f1'])
    assert CANARY not in str(error.value)


def test_a_missing_file_of_predictions_is_named(tmp_path):
    with pytest.raises(UserError, match='nowhere.jsonl: there is no such file'):
        read_predictions(tmp_path / 'nowhere.jsonl', [])


def test_a_page_is_whole_or_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'page.html'
    write_browser(path, [frame_of()], title='first')
    before = path.read_bytes()
    with pytest.raises(UserError, match="two frames have the id 'f0'"):
        write_browser(path, [frame_of(), frame_of()])
    with pytest.raises(UserError, match="prediction is for frame 'f7'"):
        write_browser(path, [frame_of()], {'f7': prediction_of(frame_of(7))})

    def full(source, target):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr('os.replace', full)
        with pytest.raises(OSError, match='No space'):
            write_browser(path, [frame_of(1)])
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    write_browser(path, [frame_of(1)])
    assert path.read_bytes() != before and list(path.parent.iterdir()) == [path]


def call(*args):
    """Runs the tool in this process; its exit status."""
    spec = importlib.util.spec_from_file_location('tool_browse_frames', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    try:
        run_tool(lambda: tool.main([str(each) for each in args]))
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def files(tmp_path):
    """Frames, predictions of most of them, and where the page goes."""
    frames = [frame_of(n, statement=f'{CANARY} {n}', offensive_bin=0) for n in range(5)]
    write_frames(tmp_path / 'frames.parquet', frames)
    made = [
        prediction_of(frame, offensive_bin=n % 2, format_ok=n != 2, text=CANARY)
        for n, frame in enumerate(frames[:4])
    ]
    lines = ''.join(each.model_dump_json() + '\n' for each in made)
    (tmp_path / 'predictions.jsonl').write_text(lines)
    return tmp_path / 'frames.parquet', tmp_path / 'predictions.jsonl', tmp_path / 'page.html'


def test_the_tool_tells_path_and_counts_alone(files, capfd, caplog):
    frames, predictions, out = files
    told = (frames, '--predictions', predictions, '--out', out, '--accept-content-warning')
    assert call(*told) == 0
    shown = capfd.readouterr()
    counts = '5 frames, 4 predictions, 1 parse failures, 2 wrong labels'
    assert shown.out == f'{counts} are in {out}\n' and not shown.err
    assert call(*told, '--limit', 2, '--title', 'Two') == 0
    shown = capfd.readouterr()
    counts = '2 frames, 2 predictions, 0 parse failures, 1 wrong labels'
    assert shown.out == f'{counts} are in {out}\n'
    assert CANARY not in shown.out + shown.err + caplog.text
    found = Outline(out.read_text())
    assert found.of('title') == ['Two']
    assert [each['id'] for each in json.loads(found.of('script')[0])['frames']] == ['f0', 'f1']
    assert call(frames, '--out', out, '--accept-content-warning') == 0
    assert capfd.readouterr().out == f'5 frames are in {out}\n'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ((), '--accept-content-warning'),
        (('--accept-content-warning', '--limit', 0), '--limit 0: must be at least 1'),
        (('--accept-content-warning', '--out', 'frames.parquet'), r'name it \*\.html'),
    ],
)
def test_the_tool_refuses_in_one_line(files, capfd, options, message):
    frames, _, out = files
    before = frames.read_bytes()
    assert call(frames, '--out', out, *options) == 2
    shown = capfd.readouterr()
    assert re.fullmatch(f'error: .*{message}.*\n', shown.err) and not shown.out
    assert not out.exists() and frames.read_bytes() == before


def test_the_tool_names_the_line_of_an_unknown_frame(files, capfd):
    frames, predictions, out = files
    predictions.write_text(line(frame_id='other') + '\n')
    told = (frames, '--predictions', predictions, '--out', out, '--accept-content-warning')
    assert call(*told) == 2
    error = capfd.readouterr().err
    assert f"{predictions}:1: there is no frame 'other'" in error and CANARY not in error


def luminance(colour):
    """Relative luminance of ``#rrggbb`` by WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_colours_have_the_contrast_of_wcag_aa(scheme):
    """4.5 for text, 3 for the edges of controls."""
    style = (Path(page.__file__).parent / 'colours.css').read_text()
    roots = re.findall(r':root \{(.*?)\}', style, re.S)
    colours = dict(re.findall(r'--([\w-]+): (#\w{6});', roots[scheme == 'dark']))
    grounds = ('ground', 'paper', 'raised', 'accent-soft')
    wanted = {(ink, ground): 4.5 for ink in ('ink', 'muted') for ground in grounds}
    wanted |= {(name, f'{name}-soft'): 4.5 for name in ('warn', 'bad', 'good')}
    wanted |= {('accent', ground): 4.5 for ground in ('ground', 'paper', 'raised')}
    wanted |= {('ink', 'warn-soft'): 4.5, ('muted', 'warn-soft'): 4.5, ('warn', 'paper'): 4.5}
    wanted |= {('on-accent', 'accent'): 4.5, ('edge', 'paper'): 3}
    for (ink, ground), least in wanted.items():
        bright, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= least, (ink, ground)

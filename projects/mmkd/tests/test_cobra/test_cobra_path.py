"""From statements to a page of predictions, and no text of theirs in what is logged."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import mmkd.components  # noqa: F401
from mmdistill.core import launch
from mmdistill.testing.resume_check import run
from mmkd.cobra.schema import Frame, Provenance, frame_id, statement_id
from mmkd.cobra.tables.table import read_frames, write_frames
from mmkd.cobra.world.data import WorldFrames
from mmkd.cobra.world.draw import statements

PROJECT = Path(__file__).resolve().parents[2]
SMOKE = PROJECT / 'configs' / 'cobra' / 'cobra_smoke.py'
CANARY = 'marzipan zeppelin'


def tool(name, *words):
    """Runs a command line tool in this process."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', PROJECT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.main([str(each) for each in words])


@pytest.fixture(scope='module')
def generated(tmp_path_factory):
    """Frames of the world's teacher, and one with a canary in every text."""
    folder = tmp_path_factory.mktemp('cobra')
    (folder / 'teacher.py').write_text(
        "custom_imports = dict(imports=['mmkd.components'])\n"
        "teacher = dict(type='mmkd.FrameWorldTeacher', seed=1)\n"
    )
    asked = [json.dumps(dict(statement=each.text)) for each in statements('train')[:12]]
    (folder / 'statements.jsonl').write_text('\n'.join(asked) + '\n')
    shown = [*WorldFrames('dev', 20).frames, *WorldFrames('test', 10, 'pairs').frames]
    write_frames(folder / 'shown.parquet', shown)
    common = [folder / 'teacher.py', '--statements', folder / 'statements.jsonl']
    common += ['--demonstrations', folder / 'shown.parquet', '--accept-content-warning']
    corpus, pairs = folder / 'corpus.parquet', folder / 'pairs.parquet'
    assert tool('generate_frames', *common, '--run-dir', folder / 'one', '--out', corpus) == 0
    twice = [*common, '--counterfactual', '--run-dir', folder / 'two', '--out', pairs]
    assert tool('generate_frames', *twice) == 0
    return folder


def with_canaries(frames):
    """The same frames and one whose every text is a canary."""
    text = f'{CANARY} is said'
    slots = {name: f'{CANARY} {name}' for name in (*frames[0].context(), *frames[0].explanation())}
    context = {name: slots[name] for name in frames[0].context()}
    return [
        *frames,
        Frame(
            frame_id=frame_id(text, context),
            statement_id=statement_id(text),
            statement=text,
            **slots,
            label_majority=0,
            provenance=Provenance(),
        ),
    ]


def test_a_student_of_generated_frames_is_trained_scored_and_shown(generated, tmp_path, capsys):
    corpus, pairs = (read_frames(generated / f'{name}.parquet') for name in ('corpus', 'pairs'))
    assert len(corpus) >= 30 and len(pairs) == 24
    assert all(each.provenance.model == 'frame-world' for each in corpus)
    write_frames(tmp_path / 'train.parquet', with_canaries(corpus))
    labels = [
        each.model_copy(update=dict(label_majority=int(each.offensiveness != 'none')))
        for each in pairs
    ]
    write_frames(tmp_path / 'test.parquet', with_canaries(labels))

    cfg = launch.read_config(SMOKE)
    cfg.train_dataloader.num_workers = 0
    cfg.train_dataloader.pop('persistent_workers', None)
    for name, file in (('train', 'train'), ('val', 'test')):
        cfg[f'{name}_dataloader'].dataset.frames = str(tmp_path / f'{file}.parquet')
    out = tmp_path / 'predictions.jsonl'
    cfg.val_evaluator.out = str(out)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.work_dir = str(tmp_path / 'work')
    assert run(cfg.to_dict()) == 0
    assert len(out.read_text().splitlines()) == len(pairs) + 1

    page = tmp_path / 'page.html'
    words = [tmp_path / 'test.parquet', '--predictions', out, '--out', page]
    assert tool('browse_frames', *words, '--accept-content-warning') == 0
    assert CANARY in page.read_text()

    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    secret = CANARY.encode()
    leaks = [
        path
        for path in (tmp_path / 'work').rglob('*')
        if path.is_file() and secret in path.read_bytes()
    ]
    assert leaks == []


def test_the_published_configs_build_their_schedule(generated):
    """Two epochs of sixteen in parts, cosine to nothing, one student for all sizes."""
    folder = PROJECT / 'configs' / 'cobra'
    known = {path.stem: launch.read_config(path) for path in folder.glob('charm*_flan-t5-*.py')}
    assert {name.rpartition('-')[2] for name in known} == {'small', 'base', 'large', 'xl', 'xxl'}
    for name, cfg in known.items():
        assert cfg.train_cfg.max_epochs == 2 and cfg.train_dataloader.batch_size == 16
        assert cfg.train_cfg.accumulate == (16 if name.endswith('xxl') else 2)
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.lr, optimizer.weight_decay) == (5e-4 if 'lora' in name else 1e-4, 0.1)
        assert cfg.test_cfg.decoding.num_beams == 4 and cfg.test_cfg.max_new_tokens == 512
        data = cfg.train_dataloader.dataset
        assert (data.max_source, data.max_target) == (512, 512)
        sizes = {cfg[f'{each}_dataloader'].dataset.tokenizer for each in ('train', 'val', 'test')}
        assert sizes == {f'google/flan-t5-{name.rpartition("-")[2]}'}
        assert sizes == {cfg.model.language_model.pretrained}
        shown = {
            cfg[f'{each}_dataloader'].dataset.get('context', 'all') for each in ('train', 'test')
        }
        assert shown == {'none' if 'agnostic' in name else 'all'}
        assert cfg.model.get('dtype') == ('bfloat16' if 'xxl' in name or 'lora' in name else None)

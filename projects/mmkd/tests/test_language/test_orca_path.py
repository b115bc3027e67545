"""From questions to a student that answers: collect, filter, tokenize, train in stages, score."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from mmengine.hooks import Hook

import mmkd.components  # noqa: F401
from mmdistill.core import launch
from mmdistill.testing.resume_check import run
from mmkd.language.token_table import TokenTable
from mmkd.reasoning.queries import Plan, write_queries
from mmkd.reasoning.vocabulary import world_tokenizer
from mmkd.traces.compact import read_parquet
from mmkd.traces.schema import Query, read_record

PROJECT = Path(__file__).resolve().parents[2]
SMOKE = PROJECT / 'configs' / 'orca' / 'orca_smoke.py'
FAULTS = dict(empty=0.05, cut=0.05, wrong_answer=0.05)


def tool(name, *words):
    """Runs a command line tool in this process."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', PROJECT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.main([str(each) for each in words])


class Losses(Hook):
    """Loss of each step, and scores of each evaluation."""

    def __init__(self):
        self.losses, self.scores = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))

    def after_val_epoch(self, runner, metrics=None):
        self.scores.append(metrics)


@pytest.fixture(scope='module')
def collected(tmp_path_factory):
    """Traces of two teachers, the second of which answers a part of what the first one did."""
    folder = tmp_path_factory.mktemp('orca')
    plan = Plan('train', 200, ('arithmetic', 'counting'))
    write_queries(folder, dict(train=plan))
    for persona in ('intermediate', 'strong'):
        config = folder / f'{persona}.py'
        teacher = dict(type='mmkd.WorldTeacher', persona=persona, faults=FAULTS)
        config.write_text(
            "custom_imports = dict(imports=['mmkd.components'])\n"
            f'teacher = {teacher}\nlicense_tag = "own"\n'
        )
    first, second = folder / 'first', folder / 'second'
    queries = ['--queries', folder / 'train.jsonl']
    assert tool('collect_traces', folder / 'intermediate.py', *queries, '--run-dir', first) == 0
    drawn = ['--stage-two-from', first, '--count', 60]
    assert tool('collect_traces', folder / 'strong.py', *drawn, '--run-dir', second) == 0
    return folder


def rows(folder):
    """Rows of a run."""
    return [json.loads(line) for file in folder.glob('*.jsonl') for line in file.open()]


def test_every_question_has_one_row_and_stage_two_is_a_part_of_stage_one(collected):
    first, second = rows(collected / 'first'), rows(collected / 'second')
    assert len(first) == len({row['row_key'] for row in first}) == 200
    assert len(second) == 60
    texts = [{row['user_text'] for row in each} for each in (first, second)]
    assert texts[1] < texts[0]
    assert {row['status'] for row in first} == {'ok', 'empty', 'truncated'}


def test_a_student_learns_from_both_in_turn(collected, tmp_path):
    folder = tmp_path
    world_tokenizer().save_pretrained(folder / 'tokenizer')
    counts = {}
    for name in ('first', 'second'):
        parquet = folder / f'{name}.parquet'
        assert tool('compact_traces', collected / name, '--out', parquet, '--target') == 0
        counts[name] = sum(each.status == 'ok' for each in read_parquet(parquet))
        words = ['--out', folder / name, '--tokenizer', folder / 'tokenizer', '--max-len', 256]
        assert tool('tokenize_traces', parquet, *words) == 0
        assert len(TokenTable.open(folder / name)) == counts[name]
    asked = len(rows(collected / 'first'))
    assert 0.7 * asked < counts['first'] < asked  # empty, cut and wrong ones are not learned
    cfg = launch.read_config(SMOKE)
    packs = dict(type='mmkd.PackedDataset', cap=256, data_root=str(folder))
    cfg.train_dataloader.dataset.stages = [
        dict(name='intermediate', dataset=dict(packs, table='first'), epochs=2),
        dict(name='strong', dataset=dict(packs, table='second', stage=1), epochs=2),
    ]
    cfg.train_dataloader.num_workers = 0
    cfg.train_dataloader.pop('persistent_workers', None)
    cfg.optim_wrapper.optimizer.lr = 0.01
    cfg.train_cfg.val_interval = 1000
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.val_dataloader.dataset = dict(
        type='mmkd.QueryFiles', paths='train.jsonl', data_root=str(collected), limit=20
    )
    cfg.work_dir = str(folder / 'work')
    notes = Losses()
    assert run(cfg.to_dict(), notes) == 0
    assert notes.losses[-1] < 0.6 * notes.losses[0]
    assert notes.scores[0]['n/arithmetic-2'] > 0
    out = folder / 'scores.json'
    words = [folder / 'work' / 'hf', '--queries', collected / 'train.jsonl', '--limit', 2]
    assert tool('evaluate_traces', *words, '--max-new-tokens', 4, '--out', out) == 0
    scores = json.loads(out.read_text())['scores']
    assert {'answer/mean', 'first_capital/mean', 'format_penalty'} <= set(scores)


def test_questions_that_are_written_are_read_again(collected):
    lines = (collected / 'train.jsonl').read_text().splitlines()
    found = [read_record(Query, line, 'line') for line in lines]
    assert {each.sub_collection for each in found} == {'arithmetic', 'counting'}
    assert all(each.target for each in found)

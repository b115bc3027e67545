"""Shards as tasks of Ray, in its local mode, and what is said where Ray is missing."""

import importlib.util
import os
import sys

import pytest
from collection_fakes import rows_of, some_queries, write_queries

from mmdistill.core.errors import UserError
from mmkd.collection.ray_route import collect_on_ray

HAS_RAY = importlib.util.find_spec('ray') is not None


@pytest.fixture
def config(tmp_path):
    """Thirty questions."""
    return dict(
        teacher=dict(type='FakeTeacher'),
        queries=[str(write_queries(tmp_path / 'queries.jsonl', some_queries(30)))],
        run_dir=str(tmp_path / 'run'),
        custom_imports=dict(imports=['collection_fakes']),
    )


def test_without_ray(config, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r'pip install "mmkd\[ray\]"'):
        collect_on_ray(config, 2)


@pytest.mark.skipif(not HAS_RAY, reason='needs ray')
def test_shards_as_tasks(config, tmp_path, monkeypatch):
    import ray

    here = os.path.dirname(__file__)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([here, *sys.path]))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        ends = collect_on_ray(config, 3)
        assert [each.reason for each in ends] == ['done'] * 3
        assert [each.summary['shard'] for each in ends] == ['0/3', '1/3', '2/3']
        assert len({each.row_key for each in rows_of(tmp_path / 'run')}) == 30
        assert sum(each.summary['new'] for each in ends) == len(rows_of(tmp_path / 'run')) == 30
        assert sum(each.summary['new'] for each in collect_on_ray(config, 2)) == 0
        with pytest.raises(UserError, match='samples was 1'):
            collect_on_ray({**config, 'samples': 2}, 2)
    finally:
        ray.shutdown()

"""tools/misc/print_config.py."""

import sys

import pytest
from mmengine.config import Config

from mmdistill.core.errors import UserError


@pytest.fixture
def tool(tools):
    """The tool."""
    import print_config

    return print_config


@pytest.fixture
def config(tmp_path):
    """A config with a base."""
    (tmp_path / 'base.py').write_text('a = dict(b=1, c=2)\n')
    (tmp_path / 'child.py').write_text("_base_ = './base.py'\na = dict(c=3)\n")
    return str(tmp_path / 'child.py')


def test_bases_and_options_are_merged(tool, config, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['x', config, '--cfg-options', 'a.b=7', '+d=[1,2]'])
    tool.main()
    printed = Config.fromstring(capsys.readouterr().out, '.py')
    assert printed.a == dict(b=7, c=3) and printed.d == [1, 2]


@pytest.mark.parametrize('kind', ['py', 'json', 'yml'])
def test_written_config_reads_back(tool, config, monkeypatch, tmp_path, kind):
    path = str(tmp_path / f'out.{kind}')
    monkeypatch.setattr(sys, 'argv', ['x', config, '--save-path', path])
    tool.main()
    assert Config.fromfile(path).a == dict(b=1, c=3)


def test_unknown_ending(tool, config, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['x', config, '--save-path', 'out.txt'])
    with pytest.raises(UserError, match='must end in'):
        tool.main()

"""One clear line for what a user can mend, a traceback for the rest."""

import pytest
from mmengine.registry import Registry

from mmdistill.core.errors import UserError, did_you_mean, explain, run_tool

THINGS = Registry('thing')


class Base:
    """Has a key of its own."""

    def __init__(self, width=1):
        pass


@THINGS.register_module()
class Thing(Base):
    """Passes the rest on."""

    def __init__(self, height=1, **rest):
        super().__init__(**rest)


@THINGS.register_module()
class Broken:
    """Has a bug."""

    def __init__(self):
        self.helper()

    def helper(self):
        Thing.__init__(self, depht=1)


def caught(function, *args):
    """The exception."""
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(('name', 'answer'), [('hieght', " (did you mean 'height'?)"), ('zzz', '')])
def test_near_names(name, answer):
    assert did_you_mean(name, ['height', 'width']) == answer


def test_unknown_config_key_names_class_and_near_keys():
    error = caught(THINGS.build, dict(type='Thing', widht=2))
    line = explain(error)
    assert "unknown config key 'widht' for" in line and "did you mean 'width'" in line


def test_unknown_type():
    line = explain(caught(THINGS.build, dict(type='Thingy')))
    assert line.startswith('Thingy is not in the') and 'custom_imports' in line and '\n' not in line


def test_a_bug_keeps_its_traceback():
    assert explain(caught(THINGS.build, dict(type='Broken'))) is None
    assert explain(TypeError("f() got an unexpected keyword argument 'x'")) is None
    assert explain(KeyError('x')) is None and explain(RuntimeError('x')) is None


def test_missing_file_and_syntax():
    assert explain(caught(open, '/nowhere/x')) == '/nowhere/x: there is no such file'
    line = explain(caught(open, '/dev', 'w'))
    assert line == '/dev: Is a directory'
    line = explain(caught(compile, 'a = (', 'config.py', 'exec'))
    assert line.startswith('config.py, line 1:')


def test_tools_print_one_line_and_end_with_two(capsys, monkeypatch):
    def fails():
        raise UserError('mend this')

    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(SystemExit) as info:
        run_tool(fails)
    assert info.value.code == 2 and capsys.readouterr().err == 'error: mend this\n'
    monkeypatch.setenv('RANK', '3')
    with pytest.raises(SystemExit):
        run_tool(fails)
    assert capsys.readouterr().err == 'error (rank 3): mend this\n'
    monkeypatch.setenv('MMDISTILL_TRACEBACK', '1')
    with pytest.raises(UserError):
        run_tool(fails)


def test_tools_let_other_errors_and_exits_through():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)
    with pytest.raises(SystemExit) as info:
        run_tool(lambda: (_ for _ in ()).throw(SystemExit(0)))
    assert info.value.code == 0
    run_tool(lambda: None)

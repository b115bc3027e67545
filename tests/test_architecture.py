"""The dependency rules D1 to D9, read from the sources and from what an import loads."""

import ast
import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmdistill'
RING0 = ('core', 'testing')
HOSTS_OF = {
    'det3d': {'mmdet3d', 'mmdet', 'mmcv', 'spconv', 'numba', 'matplotlib'},
    'pose': {'mmpose', 'mmdet', 'mmcv', 'cv2', 'matplotlib'},
    'seg': {'mmseg', 'mmcv', 'cv2', 'matplotlib'},
}
HOSTS = {'mmcv', 'mmdet', 'mmdet3d', 'mmseg', 'mmpose', 'mmpretrain', 'spconv', 'open3d'}
FRAME = {'numpy', 'torch', 'mmengine'}
STANDARD = set(sys.stdlib_module_names)


def sources(*folders: Path) -> list[Path]:
    """Lists the Python files below folders."""
    files = (path for folder in folders for path in sorted(folder.rglob('*.py')))
    return [path for path in files if not {'.mim', '__pycache__'} & set(path.parts)]


@functools.cache
def parse(path: Path) -> ast.Module:
    """Parses a file and notes in which package it lies."""
    tree = ast.parse(path.read_text(encoding='utf-8'), str(path))
    tree.package = path.parent.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
    return tree


def imports(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted names of all imports in a tree, those in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = getattr(tree, 'package', ())
            base = package[: len(package) - node.level + 1] if node.level else ()
            words = (*base, *filter(None, [node.module]))
            yield from ('.'.join((*words, alias.name)) for alias in node.names)


def foreign(tree: ast.AST, allowed: set[str], inside: tuple[str, ...]) -> list[str]:
    """Lists imports that are neither in ``allowed`` nor below ``mmdistill.<inside>``."""
    found = []
    for name in imports(tree):
        parts = name.split('.')
        if parts[0] == 'mmdistill':
            if len(parts) > 1 and parts[1] not in (*inside, 'registry', 'version', '__version__'):
                found.append(name)
        elif parts[0] not in allowed | STANDARD:
            found.append(name)
    return found


def optional_hosts(tree: ast.AST) -> list[int]:
    """Lists lines of ``try`` blocks that import a host and go on without it."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.handlers:
            names = {name.split('.')[0] for child in node.body for name in imports(child)}
            if names & HOSTS:
                lines.append(node.lineno)
    return lines


def side_effects(tree: ast.Module) -> list[int]:
    """Lists lines of calls that run at import; entries in a registry are no side effect."""
    lines = []
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = node.value.func
            name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
            if not name.startswith('register'):
                lines.append(node.lineno)
        elif isinstance(node, (ast.For, ast.While, ast.With)) or (
            isinstance(node, ast.If)
            and '__name__' not in ast.unparse(node.test)
            and 'TYPE_CHECKING' not in ast.unparse(node.test)
        ):
            lines.append(node.lineno)
    return lines


def root_name(node: ast.expr) -> str:
    """Returns the first name of ``a.b[c].d``."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ''


def host_patches(tree: ast.AST) -> list[int]:
    """Lists lines that set an attribute of something imported from another package."""
    theirs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = ((alias.asname or alias.name.split('.')[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = ((alias.asname or alias.name, node.module or '') for alias in node.names)
        else:
            continue
        theirs |= {name for name, origin in names if origin.split('.')[0] in HOSTS | FRAME}
    lines = []
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ('setattr', 'delattr'):
            targets = [ast.Attribute(node.args[0], 'x')]
        for target in targets:
            if isinstance(target, (ast.Attribute, ast.Subscript)) and root_name(target) in theirs:
                lines.append(node.lineno)
    return lines


def own_types(files: list[Path]) -> set[str]:
    """Collects the names that the package puts into registries."""
    names = set()
    for path in files:
        for node in ast.walk(parse(path)):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            for decorator in node.decorator_list:
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(call, ast.Attribute) and call.attr == 'register_module':
                    given = [
                        ast.literal_eval(word.value)
                        for word in getattr(decorator, 'keywords', ())
                        if word.arg == 'name'
                    ]
                    names |= set(given) or {node.name}
    return names


@functools.cache
def package_types() -> set[str]:
    """Collects the registered names of the whole package."""
    return own_types(sources(PACKAGE))


def types_in_config(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields line and value of every ``type='...'`` in a config."""
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.Call):
            pairs = [(word.arg, word.value) for word in node.keywords]
        elif isinstance(node, ast.Dict):
            pairs = [
                (key.value, value)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
        for key, value in pairs:
            if key == 'type' and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def wrong_types(tree: ast.AST, own: set[str]) -> list[tuple[int, str]]:
    """Lists our types that a config names without prefix, and prefixed ones that do not exist."""
    return [
        (line, name)
        for line, name in types_in_config(tree)
        if name in own or (name.startswith('mmdistill.') and name.split('.', 1)[1] not in own)
    ]


def configs() -> list[Path]:
    """Lists all config files of the repository."""
    folders = [ROOT / 'configs', *(ROOT / 'projects').glob('*/configs')]
    return sources(*(folder for folder in folders if folder.is_dir()))


def named(path: Path) -> str:
    """Names a file in a test's id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize('path', sources(*(PACKAGE / ring for ring in RING0)), ids=named)
def test_d1_the_core_knows_only_the_frame(path):
    inside = ('core',) if path.is_relative_to(PACKAGE / 'core') else RING0
    assert foreign(parse(path), FRAME, inside) == []


def test_d1_importing_the_core_loads_no_host():
    code = (
        'import sys, mmdistill.core, mmdistill.testing\n'
        f'print(*sorted({sorted(HOSTS)!r} & sys.modules.keys()))'
    ).replace(repr(sorted(HOSTS)), f'set({sorted(HOSTS)!r})')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize('ring', sorted(HOSTS_OF))
def test_d2_a_host_folder_knows_the_core_and_its_own_host(ring):
    for path in sources(PACKAGE / ring):
        assert foreign(parse(path), FRAME | HOSTS_OF[ring], ('core', ring)) == [], path


def test_d3_no_placeholders_for_missing_hosts():
    assert [path for path in sources(PACKAGE) if optional_hosts(parse(path))] == []


def test_d4_d7_the_library_imports_neither_projects_nor_tools():
    for path in sources(PACKAGE):
        roots = {name.split('.')[0] for name in imports(parse(path))}
        assert not roots & {'projects', 'mmkd', 'tools', 'tests'}, path
    for path in sources(ROOT / 'tools'):
        if 'setup_steps' not in path.parts:
            roots = {name.split('.')[0] for name in imports(parse(path))}
            assert not roots & {'projects', 'mmkd', 'tests'}, path


def test_d4_projects_use_the_core_alone():
    for path in sources(*(ROOT / 'projects').glob('*/mm*')):
        rings = {
            name.split('.')[1] for name in imports(parse(path)) if name.startswith('mmdistill.')
        }
        assert not rings & set(HOSTS_OF), path


def test_d5_the_registries_locate_the_core_alone():
    from mmengine.registry import Registry

    from mmdistill import registry

    ours = [value for value in vars(registry).values() if isinstance(value, Registry)]
    ours = [value for value in ours if value.scope == 'mmdistill']
    assert len(ours) >= 9
    assert all(value._locations == ['mmdistill.core'] for value in ours)


@pytest.mark.parametrize('path', configs(), ids=named)
def test_d6_configs_name_our_types_with_prefix(path):
    assert wrong_types(parse(path), package_types()) == []


@pytest.mark.parametrize('path', sources(PACKAGE), ids=named)
def test_d8_imports_have_no_effect_and_hosts_are_patched_in_compat_only(path):
    tree = parse(path)
    assert side_effects(tree) == [], 'calls or branches at import'
    if path.name != 'compat.py':
        assert host_patches(tree) == [], 'attributes of other packages are set'


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('compat.py')), ids=named)
def test_d8_every_compat_file_lists_its_patches(path):
    assigned = {
        target.id
        for node in parse(path).body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert 'PATCHES' in assigned, 'list what is patched, its defect and the release that ends it'


def test_d9_config_names_are_unique():
    counts = Counter(path.name for path in configs() if path.name != '__init__.py')
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_file_is_called_utils():
    assert [path for path in sources(PACKAGE, ROOT / 'tools') if path.stem == 'utils'] == []


# The rules find what they are meant to find.


@pytest.mark.parametrize(
    ('code', 'inside', 'found'),
    [
        ('import os, torch.nn, mmengine.hooks', ('core',), []),
        ('from mmdistill.core import ema', ('core',), []),
        ('from mmdistill.registry import HOOKS', ('core',), []),
        ('def f():\n    import mmcv.ops', ('core',), ['mmcv.ops']),
        ('from mmdistill.det3d import boxes', ('core',), ['mmdistill.det3d.boxes']),
        ('from mmdistill import seg', ('core', 'det3d'), ['mmdistill.seg']),
        ('import yaml', ('core',), ['yaml']),
    ],
)
def test_foreign_imports_are_found(code, inside, found):
    assert foreign(ast.parse(code), FRAME, inside) == found


@pytest.mark.parametrize(
    ('function', 'code', 'count'),
    [
        (optional_hosts, 'try:\n    import mmdet3d\nexcept ImportError:\n    mmdet3d = None', 1),
        (optional_hosts, 'try:\n    import tomllib\nexcept ImportError:\n    tomllib = None', 0),
        (side_effects, 'import os\nos.environ.setdefault("A", "1")', 1),
        (side_effects, 'for x in y:\n    z(x)', 1),
        (side_effects, 'if __name__ == "__main__":\n    main()', 0),
        (side_effects, 'HOOKS.register_module(module=A)', 0),
        (host_patches, 'import torch\ntorch.load = f', 1),
        (host_patches, 'from mmdet.models import A\nA.forward = f', 1),
        (host_patches, 'import mmcv\ndef f():\n    setattr(mmcv.ops, "nms", g)', 1),
        (host_patches, 'from mmengine import runner as r\nr.x["a"] += 1', 1),
        (host_patches, 'import torch\nx = torch.ones(1)\nx.grad = None', 0),
    ],
)
def test_effects_and_patches_are_found(function, code, count):
    assert len(function(ast.parse(code))) == count


def test_wrong_types_are_found(tmp_path):
    (tmp_path / 'a.py').write_text(
        '@MODELS.register_module()\nclass A: pass\n'
        '@HOOKS.register_module(name="C")\nclass B: pass\n'
    )
    own = own_types([tmp_path / 'a.py'])
    assert own == {'A', 'C'}
    config = "a = dict(type='A'), dict(type='mmdistill.A'), {'type': 'mmdistill.B'}, dict(type='X')"
    assert [name for _, name in wrong_types(ast.parse(config), own)] == ['A', 'mmdistill.B']

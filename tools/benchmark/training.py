"""Jobs of a comparison: a synthetic data set, and one training with its final validation."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mmengine.config import Config

from benchmark import scalars
from benchmark.environment import commit
from benchmark.jobs import Job, JobError

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / 'mmdistill'
TRAIN = ROOT / 'tools' / 'train.py'
SYNTHETIC = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'


@cache
def config_of(path: Path) -> Config:
    """A config file, read once."""
    # its custom imports are for the training, not for looking at numbers
    return Config.fromfile(path, import_custom_modules=False)


def library_folders(config: Config) -> tuple[Path, ...]:
    """The folders of the library whose code a config runs: the core and what it imports."""
    imports = config.get('custom_imports', {}).get('imports', [])
    modules = [LIBRARY.name + '.core', *sorted(each for each in imports if '.' in each)]
    return tuple(_folder_of(name) for name in modules)


def _folder_of(module: str) -> Path:
    """Folder of a package of the library; of a project all of it, which one module imports."""
    root, *parts = module.split('.')
    return LIBRARY.joinpath(*parts) if root == LIBRARY.name else ROOT / 'projects' / root / root


@cache
def code_hash(folder: Path) -> str:
    """Hash of all python files below a folder, names and contents, made once per process."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        content = path.read_bytes()
        digest.update(f'{path.relative_to(folder)} {len(content)}\n'.encode() + content)
    return digest.hexdigest()[:16]


def option_key(config: Config, key: str) -> str:
    """A dotted key as ``--cfg-options`` wants it: with a ``+`` when the config lacks it."""
    node = config.to_dict()
    for part in key.split('.'):
        if isinstance(node, (list, tuple)):
            node = node[int(part)]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            return f'+{key}'
    return key


def finite(content: object) -> object:
    """The same content with None in place of numbers that are not finite; JSON has none."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file whole or not at all; numbers that are not finite become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    part.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + '\n')
    os.replace(part, path)


def read_json(path: Path) -> dict:
    """The content of a JSON file, nothing when it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


@cache
def generator_version(kind: str) -> int:
    """Version of the generated content of a sub-command of ``make_synthetic.py``."""
    sys.path.insert(0, str(SYNTHETIC.parent))
    try:
        import make_synthetic
    finally:
        sys.path.pop(0)
    return getattr(make_synthetic, f'{kind.upper()}_VERSION')


@dataclass
class SyntheticData(Job):
    """Generates a data set with ``make_synthetic.py``; does nothing when it is there.

    One that an older version of the generator made is replaced.

    Args:
        kind: sub-command.
        out: folder of the data set.
        train: training frames.
        val: validation frames.
        seed: of the data.
        replace: replaces a data set of other sizes; otherwise that is an error.
        flags: further switches of the converter, without dashes; the manifest has them too.
    """

    kind: str = ''
    out: Path = Path()
    train: int = 0
    val: int = 0
    seed: int = 0
    replace: bool = False
    flags: tuple[str, ...] = ()

    def identity(self) -> dict:
        """What the content depends on."""
        known = {'train': self.train, 'val': self.val, 'seed': self.seed}
        known.update(dict.fromkeys(self.flags, True))
        return {'kind': self.kind, **known, 'version': generator_version(self.kind)}

    def command(self) -> list[str]:
        """The converter's command line."""
        wanted, there = self.identity(), read_json(self.out / 'manifest.json')
        other = {key for key, value in wanted.items() if there.get(key) != value}
        done = [sys.executable, str(SYNTHETIC), self.kind, f'--out={self.out}', '--workers=0']
        if there and (other == {'version'} or (other and self.replace)):
            done.append('--overwrite')
        sizes = (f'--{key}={wanted[key]}' for key in ('train', 'val', 'seed'))
        return [*done, *sizes, *(f'--{flag}' for flag in self.flags)]

    def fraction(self) -> float:
        """From the converter's own progress."""
        text = self.log.read_text(errors='replace') if self.log.is_file() else ''
        found = re.findall(r'(?:scenes|images): (\d+)/(\d+)', text)
        return int(found[-1][0]) / int(found[-1][1]) if found else 0.0

    def summary(self) -> str:
        """Sizes of the data set."""
        return f'{self.train} training and {self.val} validation frames'


@dataclass
class Training(Job):
    """One run of ``tools/train.py`` with a validation at its end.

    What it was called with is kept beside its result; a call with another config, other options,
    other data or another library starts anew, the same call goes on or finds the result.

    Args:
        label: of the row in tables.
        seed: of the row.
        key: short name of the row.
        config: config file.
        options: overrides by dotted key.
        work_dir: of the run.
        clean: makes the row's metrics from the numbers of the last validation.
        curve: metric whose values in all validations are kept, as they are logged; empty: none.
        watched: logged numbers whose means over the training are among those numbers.
        headline: metric that is shown when the run is done.
        needle: part of the name of at least one number of the validation.
        based_on: whatever else the result depends on, comparable as JSON.
        script: trains; called like ``tools/train.py``.
    """

    label: str = ''
    seed: int = 0
    key: str = ''
    config: Path = Path()
    options: Mapping[str, object] = field(default_factory=dict)
    work_dir: Path = Path()
    clean: Callable[[dict], dict] = dict
    curve: str = ''
    watched: tuple[str, ...] = ()
    headline: str = ''
    needle: str = 'AP'
    based_on: object = None
    script: Path = TRAIN

    @property
    def iterations(self) -> int:
        """Length of the training."""
        default = config_of(self.config).train_cfg.max_iters
        return int(self.options.get('train_cfg.max_iters', default))

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.work_dir / f'iter_{self.iterations}.pth'

    def fingerprint(self) -> str:
        """A hash of all the result depends on: config, options, data and the code it runs."""
        options = {key: str(value) for key, value in self.options.items()}
        config = config_of(self.config)
        code = [code_hash(folder) for folder in library_folders(config)]
        parts = [config.to_dict(), options, self.based_on, code]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def _note(self) -> Path:
        return self.work_dir / 'run.json'

    def result(self) -> dict:
        """``metrics``, ``seconds``, ``commit`` of a finished run; nothing before that."""
        note = read_json(self._note)
        return note if note.get('fingerprint') == self.fingerprint() and 'metrics' in note else {}

    def is_done(self) -> bool:
        """Whether there is a result of the same call."""
        return bool(self.result())

    def command(self) -> list[str]:
        """The call of ``tools/train.py``; makes the work dir or goes on in it."""
        note = read_json(self._note)
        if note.get('fingerprint') != self.fingerprint():
            if note:
                shutil.rmtree(self.work_dir)
            note = {'fingerprint': self.fingerprint(), 'seconds': 0.0}
        write_json(self._note, note)
        done = [sys.executable, str(self.script), str(self.config), '--work-dir']
        done.append(str(self.work_dir))
        known = config_of(self.config)
        options = (f'{option_key(known, k)}={v}' for k, v in self.options.items())
        return [*done, '--resume', '--cfg-options', *options]

    def fraction(self) -> float:
        """By logged iterations; the last validation counts for a tenth."""
        return 0.9 * scalars.position(self.work_dir) / self.iterations

    def ended(self, seconds: float, code: int) -> None:
        """Keeps metrics and seconds, summed over interrupted calls."""
        note = read_json(self._note)
        note['seconds'] = note.get('seconds', 0.0) + seconds
        stopped = (self.work_dir / 'preempted').exists() or not self.checkpoint.exists()
        found = None if code or stopped else scalars.validation(self.work_dir, self.needle)
        if found is not None:
            means = {name: scalars.mean_of(self.work_dir, name) for name in self.watched}
            found.update({name: value for name, value in means.items() if value is not None})
            note.update(metrics=self.clean(found), commit=commit())
            if self.curve:
                note['curve'] = scalars.curve(self.work_dir, self.curve)
        write_json(self._note, note)
        if code:
            raise JobError(f'exit code {code}')
        if found is None:
            raise JobError(f'ended before the validation of iteration {self.iterations}')

    def summary(self) -> str:
        """The headline metric."""
        value = self.result()['metrics'].get(self.headline)
        return f'{self.headline} {value:.1f}' if value is not None else 'trained'

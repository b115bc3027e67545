"""Rows of a comparison that start from scratch, on drawn data or on real data that may be here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.jobs import Job
from benchmark.overrides import Sizes, length_options, name_for_seed, seed_options
from benchmark.training import TRAIN, SyntheticData, Training, config_of


@dataclass(frozen=True)
class Row:
    """One row of the comparison.

    Attributes:
        label: in tables.
        config: first part of the config's name.
        options: overrides by dotted key.
        data: last part of the config's name.
        cost: relative to a step on labels alone.
    """

    label: str
    config: str
    options: Mapping[str, object] = field(default_factory=dict)
    data: str = ''
    cost: float = 1.0


@dataclass(frozen=True)
class Judged:
    """By what a training is judged.

    Attributes:
        metric: shown when it has ended.
        needle: part of the name of at least one number of its validation.
    """

    metric: str
    needle: str


@dataclass(frozen=True)
class RealData:
    """Data that may be missing on this machine.

    Attributes:
        judged: by what a training on them is judged.
        what: they are, for the message.
        config: reads them.
        files: patterns below the folder of files that results depend on; the first must be there.
    """

    judged: Judged
    what: str
    config: Path
    files: Sequence[str]

    @property
    def folder(self) -> Path:
        """Where the config looks for them."""
        return Path(config_of(self.config).data_root)

    def missing(self) -> str:
        """Why they cannot be used; empty when they can."""
        if next(self.folder.glob(self.files[0]), None) is not None:
            return ''
        where = 'MMDISTILL_DATA names the folder of all data sets'
        return f'no {self.what} in {self.folder} ({where})'

    def identity(self) -> str:
        """Hash of the files."""
        digest = hashlib.sha256()
        for path in sorted(each for part in self.files for each in self.folder.glob(part)):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class DrawnData:
    """Data that are drawn anew for every seed.

    Attributes:
        judged: by what a training on them is judged.
        kind: sub-command of ``make_synthetic.py``.
        options: overrides by which a config reads them, of the config and their folder.
        flags: switches of ``make_synthetic.py``.
    """

    judged: Judged
    kind: str
    options: Callable[[Path, Path], Mapping[str, object]]
    flags: tuple[str, ...] = ()

    def job(self, home: Path, seed: int, sizes: Sizes, name: str = 'data') -> SyntheticData:
        """Draws them in a folder."""
        return SyntheticData(
            name=name,
            log=home / 'data.log',
            kind=self.kind,
            out=home / 'data',
            train=sizes.train,
            val=sizes.val,
            seed=seed,
            flags=self.flags,
            replace=True,
            cost=0.2 * (sizes.train + sizes.val),
        )


@dataclass(frozen=True)
class Comparison:
    """Rows, and the data they are trained on.

    Attributes:
        rows: by key.
        config_path: a config by the first and the last part of its name.
        clean: makes a row's metrics from the numbers of the last validation.
        drawn: data of the rows whose ``data`` are not real ones.
        real: other data by name.
        watched: logged numbers whose means over a training are metrics of it.
    """

    rows: Mapping[str, Row]
    config_path: Callable[[str, str], Path]
    clean: Callable[[Mapping[str, float]], dict[str, float]]
    drawn: DrawnData
    real: Mapping[str, RealData]
    watched: tuple[str, ...] = ()

    def missing(self) -> dict[str, str]:
        """Rows whose data are not here, and why."""
        reasons = {name: data.missing() for name, data in self.real.items()}
        found = {key: reasons.get(row.data, '') for key, row in self.rows.items()}
        return {key: why for key, why in found.items() if why}

    def training(
        self, folder: Path, seed: int, key: str, sizes: Sizes, script: Path, data: SyntheticData
    ) -> Training:
        """The training of one row."""
        row = self.rows[key]
        config, real = self.config_path(row.config, row.data), self.real.get(row.data)
        judged = self.drawn.judged if real is None else real.judged
        job = Training(
            name=key,
            log=folder / f'{key}.log',
            needs=(data.name,) if real is None else (),
            label=row.label,
            key=key,
            seed=seed,
            config=config,
            work_dir=folder / key,
            clean=self.clean,
            watched=self.watched,
            headline=judged.metric,
            needle=judged.needle,
            script=script,
            based_on=data.identity() if real is None else real.identity(),
            options={
                **(self.drawn.options(config, data.out) if real is None else {}),
                **seed_options(config, seed),
                **length_options(config, sizes.shorter),
                **row.options,
            },
        )
        job.cost = job.iterations * row.cost
        return job

    def jobs(
        self, folder: Path, seed: int, keys: Sequence[str], sizes: Sizes, script: Path = TRAIN
    ) -> list[Job]:
        """The jobs of one seed: data where a row needs them, and all rows."""
        home = folder / f'seed_{seed}'
        data = self.drawn.job(home, seed, sizes, f'seed {seed} data')
        rows = [self.training(home, seed, key, sizes, script, data) for key in keys]
        needed = any(row.needs for row in rows)
        name_for_seed(rows, seed)
        return [data, *rows] if needed else list(rows)

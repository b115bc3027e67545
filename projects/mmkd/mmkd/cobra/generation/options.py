"""How frames are asked for; the defaults are those published of COBRACORPUS (arXiv 2306.01985)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.generation.demonstrations import Selection
from mmkd.cobra.generation.prompt_texts import PROMPTS, Form, Kind
from mmkd.cobra.generation.prompting import CONTEXTS_PER_STATEMENT
from mmkd.traces.schema import Sampling


class Options(BaseModel):
    """How frames are asked for.

    Attributes:
        form: of the answers.
        selection: of the demonstrations, see :func:`mmkd.cobra.generation.demonstrations.order_of`.
        seed: of the selection.
        contexts: of each statement.
        shots: demonstrations by kind of call, where they are not the published ones.
        sampling: by kind of call, keys that are not the published ones.
        prompts: YAML file of the words.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    form: Form = 'tagged'
    selection: Selection = 'fixed'
    seed: int = 0
    contexts: int = Field(CONTEXTS_PER_STATEMENT, gt=0)
    shots: dict[Kind, int] = {}
    sampling: dict[Kind, dict[str, Any]] = {}
    prompts: Path = PROMPTS

    def sampling_of(self, kind: Kind, published: Sampling) -> Sampling:
        """How a kind of call is sampled.

        Raises:
            UserError: an unknown key, or a value that will not do.
        """
        try:
            return Sampling(**{**dict(published), **self.sampling.get(kind, {})})
        except ValidationError as error:
            first = error.errors()[0]
            key = '.'.join(str(each) for each in first['loc'])
            raise UserError(f'sampling.{kind}.{key}: {first["msg"]}') from None


def read_options(config: Mapping[str, Any], where: str) -> Options:
    """Options of a config.

    Args:
        config: its values.
        where: its file and key, for messages.

    Raises:
        UserError: an unknown key, or a value that will not do.
    """
    try:
        return Options(**config)
    except ValidationError as error:
        first = error.errors()[0]
        name = '.'.join(str(each) for each in first['loc'])
        near = did_you_mean(name, Options.model_fields) if name not in Options.model_fields else ''
        raise UserError(f'{where}.{name}: {first["msg"]}{near}') from None

"""Phases of a training: what optimizer and schedule each of them begins with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmdistill.core.errors import UserError


def configs_of(runner: Any, loop: str) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Configs of the optimizer wrapper and the schedulers; the runner builds both after its loop.

    Args:
        runner: whose loop is being built.
        loop: its name, for the message.

    Raises:
        UserError: one of them is built already.
    """
    given, wrapper = runner.param_schedulers or [], runner.optim_wrapper
    given = [given] if isinstance(given, Mapping) else list(given)
    if not isinstance(wrapper, Mapping) or not all(isinstance(each, Mapping) for each in given):
        raise UserError(
            f'{loop} builds a second optimizer: give optim_wrapper and param_scheduler as configs'
        )
    return copy.deepcopy(dict(wrapper)), given


def same_types(first: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the states of some schedulers fit others: the same types in the same order."""
    return [each['type'] for each in first] == [each['type'] for each in other]


def with_optimizer(wrapper: Mapping[str, Any], keys: Mapping[str, Any] | None) -> dict[str, Any]:
    """A config of an optimizer wrapper with other keys in its ``optimizer``."""
    return {**wrapper, 'optimizer': {**wrapper['optimizer'], **(keys or {})}}


def restart(
    runner: Any,
    wrapper: Mapping[str, Any],
    schedulers: Sequence[Mapping[str, Any]],
    keep_moments: bool = False,
) -> None:
    """A fresh optimizer and a fresh schedule; weights go on.

    Args:
        runner: in training.
        wrapper: config of the optimizer wrapper.
        schedulers: configs, whose ``begin`` and ``end`` count from now on.
        keep_moments: the optimizer goes on with the state that it has of the parameters.

    Raises:
        UserError: the runner's strategy is DeepSpeed, whose engine keeps its optimizer.
    """
    before, strategy = runner.optim_wrapper, getattr(runner, 'strategy', None)
    wrapper, schedules = copy.deepcopy(dict(wrapper)), [dict(each) for each in schedulers]
    if strategy is None:
        runner.optim_wrapper = runner.build_optim_wrapper(wrapper)
        if schedules:
            runner.param_schedulers = runner.build_param_scheduler(schedules)
    elif type(strategy).__name__ == 'DeepSpeedStrategy':
        raise UserError(
            'DeepSpeed cannot begin with a fresh optimizer in between: give later stages '
            'reset_optimizer=False and reset_scheduler=False, or train them one by one'
        )
    else:
        made = strategy.build_optim_wrapper(wrapper, runner.model)
        runner.optim_wrapper = strategy.optim_wrapper = made
        if schedules:
            built = strategy.build_param_scheduler(schedules, made)
            runner.param_schedulers = strategy.param_schedulers = built
    if keep_moments:
        runner.optim_wrapper.optimizer.state.update(before.optimizer.state)

"""A teacher that is a model of Hugging Face on this machine."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch

from mmdistill.core.errors import UserError
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.teachers.hf_batches import Asked, answer, batches
from mmkd.traces.schema import Message, Sampling


@TEACHERS.register_module()
class HFLocalTeacher:
    """Generates in batches, in a thread of its own, so that the event loop stays free.

    Questions that come within a few milliseconds are answered together, sorted by their lengths.
    Each draws with its own seed, so that what it is asked together with plays no role. Without
    ``max_tokens`` an answer may fill what the prompt leaves of the context; then only prompts of
    equal length share a batch.

    Args:
        model: folder or name of a causal language model, or the model itself.
        tokenizer: of a model that is given itself; None: from the same place as the model.
        name: of the model, part of every row's key; None: ``model`` where that is a name.
        batch_size: questions of a batch.
        gather_ms: milliseconds to wait for further questions.
        template: ``chat``, the tokenizer's own; or ``plain``, the texts with empty lines between.
        device: of a model that is loaded; None: a GPU where there is one.
        dtype: of a model that is loaded; ``auto``: as it is stored.

    Raises:
        UserError: no name, no tokenizer, an unknown template, or numbers out of range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        name: str | None = None,
        batch_size: int = 8,
        gather_ms: float = 5.0,
        template: str = 'chat',
        device: str | None = None,
        dtype: str = 'auto',
    ) -> None:
        if template not in ('chat', 'plain'):
            raise UserError(f"HFLocalTeacher: template={template!r}: is to be 'chat' or 'plain'")
        if batch_size < 1 or gather_ms < 0:
            raise UserError(
                f'HFLocalTeacher: batch_size={batch_size} is to be 1 or more and '
                f'gather_ms={gather_ms} not negative'
            )
        if not isinstance(model, str) and (name is None or tokenizer is None):
            raise UserError('HFLocalTeacher: a model that is given itself needs name and tokenizer')
        self.name, self.concurrency = name or str(model), 2 * batch_size
        self.settings = dict(template=template, dtype=dtype)
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.batch_size, self.gather = batch_size, gather_ms / 1000
        self._device, self._dtype = device, dtype
        self._asked: list[Asked] = []
        self._waiting: set[asyncio.Future] = set()
        self._some = self._thread = self._worker = None

    async def __aenter__(self) -> HFLocalTeacher:
        """Loads the model, if that is left to do.

        Raises:
            UserError: there is no such model, or its tokenizer has no chat template.
        """
        self._thread = ThreadPoolExecutor(1, 'teacher')
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._some = asyncio.Event()
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *error: object) -> None:
        """Waits for the batch that is being generated; questions without answer are cancelled."""
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        for each in self._waiting:
            each.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def agenerate(self, messages: list[Message], sampling: Sampling) -> Reply:
        """An answer, see :class:`~mmkd.teachers.base.Teacher`."""
        ids = self._prompt(messages)
        context = getattr(self.model.config, 'max_position_embeddings', None)
        if sampling.max_tokens is None and context is None:
            raise UserError(f'{self.name}: the length of its context is not known: set max_tokens')
        budget = sampling.max_tokens or context - len(ids)
        if not ids or (context is not None and (budget < 1 or len(ids) + budget > context)):
            status = 'too_long' if ids else 'failed'
            told = f'{len(ids)} tokens and up to {budget} new ones, context {context}'
            return Reply(status=status, error=told, endpoint_id='local')
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        self._asked.append(Asked(ids, sampling, budget, waiting))
        self._some.set()
        try:
            return await waiting
        finally:
            self._waiting.discard(waiting)

    def _load(self) -> None:
        """Loads what was given as a name."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            if self.tokenizer is None:
                self.tokenizer = AutoTokenizer.from_pretrained(self.model)
            if isinstance(self.model, str):
                device = self._device or ('cuda' if torch.cuda.is_available() else 'cpu')
                loaded = AutoModelForCausalLM.from_pretrained(self.model, dtype=self._dtype)
                self.model = loaded.to(device)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[:1]
            raise UserError(f'HFLocalTeacher: {self.model!r} cannot be loaded: {reason}') from None
        if self.template == 'chat' and not self.tokenizer.chat_template:
            raise UserError(
                f"{self.name}: its tokenizer has no chat template: set template='plain'"
            )

    def _prompt(self, messages: list[Message]) -> list[int]:
        """Tokens of messages.

        Raises:
            UserError: the chat template refuses them.
        """
        if self.template == 'plain':
            return self.tokenizer(''.join(f'{each["content"]}\n\n' for each in messages)).input_ids
        try:
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:
            raise UserError(f'{self.name}: its chat template refuses messages: {error}') from None

    async def _work(self) -> None:
        """Answers what was asked, again and again."""
        while True:
            await self._some.wait()
            await asyncio.sleep(self.gather)
            self._some.clear()
            asked, self._asked = self._asked, []
            for batch in batches(
                [each for each in asked if not each.answer.done()], self.batch_size
            ):
                await self._answer(batch)

    async def _answer(self, batch: list[Asked]) -> None:
        """Answers a batch, or passes on what went wrong."""
        loop = asyncio.get_running_loop()
        try:
            replies = await loop.run_in_executor(
                self._thread, answer, self.model, self.tokenizer, batch
            )
        except Exception as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                error = UserError(
                    f'{self.name}: a batch of {len(batch)} questions does not fit into memory: '
                    'lower batch_size'
                )
            replies = [error] * len(batch)
        for one, reply in zip(batch, replies, strict=True):
            if one.answer.done():
                continue
            if isinstance(reply, Exception):
                one.answer.set_exception(reply)
            else:
                one.answer.set_result(reply)

"""Keys typed faster than the panel follows: each goes to where the one before it led.

Textual gives a key to the widget that has the focus when the key comes in. That widget, and all around it, then handle
it one after the other, each in its own time; a key that came in meanwhile is already on its way to the same widget,
although the one before it moves the focus or opens a screen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from textual.app import App
from textual.events import Event, Key, Paste
from textual.message_pump import MessagePump

CHECK_SECONDS = 0.5
"""While keys wait: whether the widget that has the last one is still there, for it may go away with it."""


class TypedAhead:
    """Lets in one key at a time; the next one when all that the last one did has been done and drawn."""

    def __init__(self, app: App[Any], pass_on: Callable[[Event], Awaitable[None]]) -> None:
        self._app, self._pass_on = app, pass_on
        self._waiting: deque[Key | Paste] = deque()
        self._let_in = 0
        """How many, the last one among them."""
        self._busy = False
        self._at: MessagePump = app
        """Who has the last one."""

    async def take(self, event: Key | Paste) -> None:
        """One more: at once, or when its turn comes."""
        self._waiting.append(event)
        if not self._busy:
            await self._next()
        elif len(self._waiting) == 1:
            self._app.set_timer(CHECK_SECONDS, partial(self._check, self._let_in))

    async def _next(self) -> None:
        self._busy = bool(self._waiting)
        if not self._busy:
            return
        event, self._let_in = self._waiting.popleft(), self._let_in + 1
        target = self._app.focused or self._app.screen
        typed = isinstance(event, Paste) or target.check_consume_key(event.key, event.character)
        if self._waiting:
            self._app.set_timer(CHECK_SECONDS, partial(self._check, self._let_in))
        await self._pass_on(event)
        self._follow(self._let_in, target, drawn=typed)

    def _follow(self, number: int, pump: MessagePump, *, drawn: bool) -> None:
        """Behind the key through the queues of all that it passes; `drawn`: a text shows where the next one goes."""
        self._at = pump
        if pump is self._app:
            self._app.call_later(self._arrive, number, drawn=drawn)
        elif not pump.call_later(self._follow, number, pump._parent or self._app, drawn=drawn):
            self._app.call_later(self._done, number)

    def _arrive(self, number: int, *, drawn: bool) -> None:
        """The app has acted on the key: what it asked for, as another focus, is in its queue before what we ask for."""
        if not drawn:
            self._at = self._app.screen
            if self._app.screen.call_after_refresh(self._app.call_later, self._done, number):
                return
        self._app.call_later(self._done, number)

    async def _check(self, number: int) -> None:
        if not self._at.is_running:
            await self._done(number)
        elif self._busy and number == self._let_in:
            self._app.set_timer(CHECK_SECONDS, partial(self._check, number))

    async def _done(self, number: int) -> None:
        if self._busy and number == self._let_in:
            await self._next()

"""A pool of Ray actors that outlives its workers: what a lost one was at is given to the others.

Ray can start an actor again, but on a cluster that lost a machine there may be no room for it: its calls would wait
for ever. So the pool starts a new actor for each lost one, uses it once it is there, and goes on with those it has.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

AHEAD = 3  # calls of each worker that are waiting, computed or under way
MOST_TRIES = 4  # of one call, or of starts in a row: then it is no accident
WAIT_S, WARN_S = 1.0, 60.0  # between two looks for a worker, and until the wait is worth a line

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Call:
    """A call: what was sent to which worker, how often that was lost while this was waited for, and what came back."""

    arguments: tuple[Any, ...]
    worker: int = -1
    reference: Any = None
    n_lost: int = 0
    result: Any = None


@dataclass
class ActorPool:
    """Actors that are interchangeable; what is called is their method ``run``.

    Attributes:
        ray: the package, connected.
        start: starts an actor and returns its handle.
        n: actors.
    """

    ray: Any
    start: Callable[[], Any]
    n: int
    _live: dict[int, Any] = field(default_factory=dict)
    _coming: dict[Any, Any] = field(default_factory=dict)  # what tells that it is there -> actor
    _pending: deque[_Call] = field(default_factory=deque)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _n_failed: int = 0

    def run(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of ``run(*call)`` in the order of the calls, of which a few are taken ahead.

        Raises:
            ray.exceptions.RayError: a call raises, or its worker is lost at every try.
        """
        while len(self._live) + len(self._coming) < self.n:
            self._start()
        self._admit()
        for call in calls:
            while len(self._pending) >= AHEAD * len(self._live):
                yield self._take()
                self._admit()
            self._pending.append(_Call(call))
            self._send(self._pending[-1])
        while self._pending:
            yield self._take()

    def close(self) -> None:
        """Ends all actors."""
        for actor in (*self._live.values(), *self._coming.values()):
            with contextlib.suppress(Exception):  # it may be gone, or the cluster
                self.ray.kill(actor)
        self._live, self._coming = {}, {}

    def _take(self) -> Any:
        """The result of the first call that was sent; it stays among the pending ones until it is there."""
        while not self._is_done(self._pending[0]):
            pass
        return self._pending.popleft().result

    def _is_done(self, call: _Call) -> bool:
        """Waits for the result of a call; False where its worker was lost, and it was sent to another."""
        try:
            call.result = self.ray.get(call.reference)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            call.n_lost += 1
            if call.n_lost >= MOST_TRIES:
                raise
            self._replace(call.worker, error)
            return False
        return True

    def _replace(self, number: int, error: Exception) -> None:
        """Gives up a worker, and sends all that it had to others."""
        actor = self._live.pop(number, None)
        if actor is not None:
            logger.warning("a worker of the cluster was lost (%s): its batches run again", type(error).__name__)
            with contextlib.suppress(Exception):
                self.ray.kill(actor)
            self._start()
            self._admit()
        for call in self._pending:
            if call.worker == number:
                self._send(call)

    def _send(self, call: _Call) -> None:
        """Calls the worker with the fewest calls that were not taken yet."""
        loads = dict.fromkeys(self._live, 0)
        for other in self._pending:
            if other is not call and other.worker in loads:
                loads[other.worker] += 1
        call.worker = min(loads, key=lambda number: loads[number])
        call.reference = self._live[call.worker].run.remote(*call.arguments)

    def _start(self) -> None:
        actor = self.start()
        self._coming[actor.__ray_ready__.remote()] = actor

    def _admit(self) -> None:
        """Takes in the actors that have come; waits for one where there is none."""
        began, said = time.monotonic(), False
        while self._coming:
            patience = 0 if self._live else WAIT_S
            ready, _ = self.ray.wait(
                [*self._coming], num_returns=len(self._coming) if self._live else 1, timeout=patience
            )
            for reference in ready:
                self._take_in(reference)
            if self._live:
                return
            if not said and time.monotonic() - began > WARN_S:
                said = True
                logger.warning("no worker of the cluster is free: waiting for one")

    def _take_in(self, reference: Any) -> None:
        actor = self._coming.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError:
            self._n_failed += 1
            if self._n_failed >= MOST_TRIES * self.n:
                raise
            self._start()
        else:
            self._n_failed = 0
            self._live[next(self._numbers)] = actor

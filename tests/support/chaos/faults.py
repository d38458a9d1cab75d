"""Carrying out a plan: each fault is done, left for its time, and undone."""

import asyncio
import contextlib
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable

import psutil

from support.chaos.arena import Arena, family, go_on, kill, stop
from support.chaos.callers import Callers
from support.chaos.chronicle import Chronicle
from support.chaos.plan import Planned
from support.services import Service

Fault = Callable[[Planned], Awaitable[None]]


class Faults:
    """Does to an arena what a plan says; after ``run`` everything that was done has been undone.

    Faults on different targets overlap. One on a target that another still holds waits until that is undone.
    """

    def __init__(self, arena: Arena, callers: Callers, chronicle: Chronicle) -> None:
        self._arena, self._callers, self._chronicle = arena, callers, chronicle
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._traffic = {"1": 1.0, "2": 0.0}
        self._how: dict[str, Fault] = {
            "kill child": self._kill_child,
            "stop child": self._stop_child,
            "kill pod": self._kill_service,
            "stop pod": self._stop_service,
            "kill gateway": self._kill_service,
            "stop gateway": self._stop_service,
            "kill valkey": self._kill_valkey,
            "stop valkey": self._stop_valkey,
            "cut": self._cut,
            "lose answers": self._lose_answers,
            "lose acceptances": self._lose_answers,
            "close": self._close,
            "stall": self._stall,
            "delay": self._delay,
            "slow model": self._slow_model,
            "raise": self._poison,
            "kill by input": self._poison,
            "add version": self._add_version,
            "remove version": self._remove_version,
            "move traffic": self._move_traffic,
            "break catalog": self._break_catalog,
            "step clock": self._step_clock,
        }

    async def run(self, plan: list[Planned]) -> None:
        """Carry out all faults at their times."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for fault in plan:
                await asyncio.sleep(max(0.0, began + fault.at - loop.time()))  # the pauses are the schedule's content
                group.create_task(self._do(fault))

    async def _do(self, fault: Planned) -> None:
        # Poison and single children need nothing to themselves.
        alone = fault.kind not in ("raise", "kill by input", "kill child", "stop child", "step clock")
        async with self._locks[fault.target] if alone else contextlib.nullcontext():
            with self._chronicle.lasting(fault.kind, fault.target, f"{fault.seconds:g} s, {fault.amount:g}"):
                await self._how[fault.kind](fault)

    def _service(self, target: str) -> Service:
        name, _, number = target.partition("-")
        return (self._arena.gateways if name == "gateway" else self._arena.pods)[int(number)]

    def _child(self, fault: Planned) -> list[psutil.Process]:
        """Return the child that is meant, if the pod has any just now."""
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = self._service(fault.target).children()
        return children[int(fault.amount) % len(children) :][:1] if children else []

    async def _kill_child(self, fault: Planned) -> None:
        for child in self._child(fault):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    async def _stop_child(self, fault: Planned) -> None:
        await self._stop(self._child(fault), fault.seconds)

    async def _stop_service(self, fault: Planned) -> None:
        await self._stop(family(self._service(fault.target)), fault.seconds)

    async def _stop(self, processes: list[psutil.Process], seconds: float) -> None:
        stop(processes)
        try:
            await asyncio.sleep(seconds)
        finally:
            go_on(processes)

    async def _kill_service(self, fault: Planned) -> None:
        service = self._service(fault.target)
        await asyncio.to_thread(kill, service)
        await asyncio.sleep(fault.seconds)
        await self._arena.restart(service)

    async def _kill_valkey(self, fault: Planned) -> None:
        await asyncio.to_thread(self._arena.valkey.kill)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._arena.valkey.start)

    async def _stop_valkey(self, fault: Planned) -> None:
        process = self._arena.valkey.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    async def _cut(self, fault: Planned) -> None:
        self._arena.links[fault.target].cut()

    async def _lose_answers(self, fault: Planned) -> None:
        link = self._arena.links[fault.target]
        link.mute()
        await asyncio.sleep(fault.seconds)
        link.lose_answers()

    async def _close(self, fault: Planned) -> None:
        link = self._arena.links[fault.target]
        link.close()
        await asyncio.sleep(fault.seconds)
        link.open()

    async def _stall(self, fault: Planned) -> None:
        link = self._arena.links[fault.target]
        link.stall()
        await asyncio.sleep(fault.seconds)
        link.flow()

    async def _delay(self, fault: Planned) -> None:
        link = self._arena.links[fault.target]
        link.latency = fault.amount
        await asyncio.sleep(fault.seconds)
        link.latency = 0.0

    async def _slow_model(self, fault: Planned) -> None:
        self._arena.model.slow(fault.amount)
        await asyncio.sleep(fault.seconds)
        self._arena.model.slow(0)

    async def _poison(self, fault: Planned) -> None:
        await self._callers.poison("raise" if fault.kind == "raise" else "kill", int(fault.at * 100))

    async def _add_version(self, _: Planned) -> None:
        self._traffic.setdefault("3", 0.3)
        self._arena.model.serve(self._traffic)

    async def _remove_version(self, _: Planned) -> None:
        self._traffic.pop("3", None)
        self._traffic["1"] = max(self._traffic["1"], 0.1)  # some version must answer
        self._arena.model.serve(self._traffic)

    async def _move_traffic(self, fault: Planned) -> None:
        self._traffic["1"], self._traffic["2"] = round(fault.amount, 2), round(1 - fault.amount, 2)
        self._arena.model.serve(self._traffic)

    async def _break_catalog(self, fault: Planned) -> None:
        good = self._arena.model.break_catalog(int(fault.amount))
        await asyncio.sleep(fault.seconds)
        self._arena.model.mend_catalog(good)

    async def _step_clock(self, fault: Planned) -> None:
        clock = self._arena.clocks[int(fault.target.partition("-")[2])]
        clock.step(fault.amount)
        await asyncio.sleep(fault.seconds)
        clock.step(0.0)

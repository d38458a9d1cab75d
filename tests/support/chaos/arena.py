"""The system that chaos is made in: gateways, pods and Valkey, with a link between every two that talk."""

import asyncio
import contextlib
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Self

import psutil

from muleteer.embedded import HOST, EmbeddedValkey
from muleteer.startup import EXIT_WRONG_SETTING
from support.chaos.clock import Clock
from support.chaos.model import RESULT_TTL, CalcModel
from support.chaos.plan import GATEWAYS, LEASE_SECONDS, PODS
from support.link import Link
from support.services import Service, System
from support.waiting import wait_until

API_KEYS = ("alpha", "beta", "gamma")
"""Each is a client of its own: its jobs have lanes of their own."""
PROCESSES = (2, 1)
"""Worker processes of each pod."""
ANSWER_SECONDS = 2.0
READY_SECONDS = 90.0


class Arena:
    """Two gateways and two pods at one Valkey; use as an async context manager.

    Links are called ``gateway-valkey-0``, ``pod-valkey-1``, ``client-gateway-0`` and so on.
    """

    def __init__(self, folder: Path, appendfsync: Literal["always", "everysec"]) -> None:
        self.model = CalcModel(folder)
        self.system = System(folder, self.model.catalog)
        self.valkey = self.system.valkey = EmbeddedValkey(folder / "valkey", appendfsync=appendfsync)
        self.links: dict[str, Link] = {}
        self.clocks = [Clock(folder / f"clock-{n}") for n in range(PODS)]
        self._stack = AsyncExitStack()

    @property
    def gateways(self) -> list[Service]:
        return self.system.gateways

    @property
    def pods(self) -> list[Service]:
        return self.system.workers

    def url(self, gateway: int) -> str:
        """Return where callers reach a gateway."""
        return self.links[f"client-gateway-{gateway}"].url

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        await asyncio.to_thread(self.valkey.start)
        for n in range(GATEWAYS):
            link = await self._link(f"gateway-valkey-{n}", self.valkey.port)
            gateway = self.system.add_gateway(
                MULETEER_REDIS_URL=link.redis_url,
                MULETEER_REDIS_ANSWER_SECONDS=str(ANSWER_SECONDS),
                MULETEER_API_KEYS=",".join(API_KEYS),
                MULETEER_IDEMPOTENCY_TTL=str(RESULT_TTL),
            )
            await self._link(f"client-gateway-{n}", gateway.port)
        for n in range(PODS):
            link = await self._link(f"pod-valkey-{n}", self.valkey.port)
            self.system.add_worker(
                processes=PROCESSES[n],
                MULETEER_REDIS_URL=link.redis_url,
                MULETEER_LEASE_SECONDS=str(LEASE_SECONDS),
                # Longer than a gateway and its line can stand still one after the other: it must have seen the edit.
                MULETEER_RETIRE_SECONDS="10",
                **self.clocks[n].env,
            )
        await self.wait_ready()

    async def __aexit__(self, *_: object) -> None:
        for service in [*self.gateways, *self.pods]:
            kill(service)
        await self._stack.aclose()
        await asyncio.to_thread(self.valkey.kill)

    async def _link(self, name: str, target: int) -> Link:
        self.links[name] = await self._stack.enter_async_context(Link(target))
        return self.links[name]

    async def wait_ready(self) -> None:
        """Return once every part is ready, and every version that the catalog names is in every pod."""
        for service in [*self.gateways, *self.pods]:
            await asyncio.to_thread(service.wait_ready, READY_SECONDS)
        for pod, processes in zip(self.pods, PROCESSES, strict=True):
            await asyncio.to_thread(wait_until, lambda p=pod, n=processes: len(p.children()) == n, 30, "whole pods")

    async def restart(self, service: Service) -> None:
        """Start a service that was killed, and return once it takes connections.

        One that ends because it finds a broken catalog is started again, as Kubernetes would. Raises AssertionError if
        it ends for another reason.
        """

        def listening() -> bool:
            assert service.process is not None
            code = service.process.poll()
            if code is not None:
                assert code == EXIT_WRONG_SETTING, f"{service.module} ended: {service.log.read_text()[-2000:]}"
                service.start()
            with socket.socket() as probe:
                return probe.connect_ex((HOST, service.port)) == 0

        await asyncio.to_thread(service.start)
        await asyncio.to_thread(wait_until, listening, READY_SECONDS, f"{service.module} listens")


def family(service: Service) -> list[psutil.Process]:
    """Return a service's process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(service.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def stop(processes: list[psutil.Process]) -> None:
    """SIGSTOP them; those that have died meanwhile don't matter."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()


def go_on(processes: list[psutil.Process]) -> None:
    """SIGCONT them."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def kill(service: Service) -> None:
    """SIGKILL a service and all below it at once, as a lost node would."""
    if service.process is None or service.process.poll() is not None:
        return
    stop(family(service)[:1])  # so that it starts no others and sees none of them die
    for process in family(service):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    service.process.wait(10)

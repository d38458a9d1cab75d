"""The real pool that the simulation is held against: it scales as it is told, and tells what it saw."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation.autoscaler import BacklogTarget, Fixed, KedaAutoscaler
from benchmarks.simulation.behavior import Behavior, Direction
from benchmarks.simulation.real import Driver, RealPool, Sleeper, driving

SLEEPER = Sleeper(batch=0.02, row=0.005, start_up=0.0, max_rows=4)
FREE = Behavior(up=Direction(0.0, ()), down=Direction(60.0, ()))


async def measure_cost(driver: Driver) -> None:
    (reply,) = await driver.send(1)
    assert reply.rows == 1
    assert reply.predict_seconds >= 0.025


@pytest.mark.asyncio
async def test_a_real_pool_is_scaled_by_its_backlog_and_measured_by_its_jobs(tmp_path: Path) -> None:
    with RealPool(tmp_path, SLEEPER) as pool:
        async with driving(pool) as driver:
            started = await driver.start_pods(1)
            assert len(started[1]) == 1
            await measure_cost(driver)
            alone = await driver.run(np.array([0.0, 0.5]), Fixed(1))
            assert alone.start_ups == {}
            # 100 rows a second are what one pod can do: of 400 at once most wait, and KEDA's rule asks for another.
            target = BacklogTarget(seconds=1.0, jobs=50.0, polling_seconds=0.5, sync_seconds=0.5)
            crowd = await driver.run(np.zeros(400), KedaAutoscaler(target, 1, 2, FREE))
    assert len(crowd.waits) == 400
    assert crowd.waits.max() > alone.waits.max()
    assert [wanted for _, wanted, _ in crowd.replicas][-1] == 2

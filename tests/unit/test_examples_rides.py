"""Taxi trips: the generated city and the loaders of parquet and CSV files."""

import importlib
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
START = datetime(2021, 1, 1, 8, 0)  # noqa: DTZ001 - the trip files hold local times without a zone


@pytest.fixture(scope="module")
def trips() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        patch.syspath_prepend(ROOT / "examples" / "ride-duration")
        return importlib.import_module("trips")


def write_parquet(path: Path, prefix: str, minutes: list[float]) -> None:
    count = len(minutes)
    columns = {
        f"{prefix}_pickup_datetime": pa.array([START] * count, pa.timestamp("us")),
        f"{prefix}_dropoff_datetime": pa.array([START + timedelta(minutes=m) for m in minutes], pa.timestamp("us")),
        "PULocationID": pa.array(range(1, count + 1), pa.int64()),
        "DOLocationID": pa.array([None] + [7] * (count - 1), pa.int32()),
        "trip_distance": pa.array([1.5] * count, pa.float64()),
        "store_and_fwd_flag": pa.array(["N"] * count),
    }
    pq.write_table(pa.table(columns), path)


def test_the_same_seed_generates_the_same_rides_and_another_seed_others(trips: ModuleType) -> None:
    first, second, other = trips.generate(500, 1), trips.generate(500, 1), trips.generate(500, 2)
    assert first.records() == second.records()
    assert np.array_equal(first.minutes, second.minutes)
    assert first.records() != other.records()


def test_generated_rides_are_plausible_and_longer_distances_take_longer(trips: ModuleType) -> None:
    rides = trips.generate(5000, 3)
    assert 4800 < len(rides) <= 5000
    assert rides.minutes.min() >= 1
    assert rides.minutes.max() <= 60
    assert rides.pickup.min() >= 1
    assert rides.dropoff.max() <= trips.GRID**2
    assert 0.7 < np.corrcoef(rides.miles, rides.minutes)[0, 1] < 0.99
    speed = rides.miles / rides.minutes * 60
    assert 6 < np.median(speed) < 20


@pytest.mark.parametrize("prefix", ["tpep", "lpep"])
def test_a_monthly_trip_file_is_read_without_rides_that_lack_a_value_or_take_too_long(
    trips: ModuleType, tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "trips.parquet"
    write_parquet(path, prefix, [10, 0.5, 1, 12.5, 60, 61])
    rides = trips.read_trips(path)
    assert rides.minutes.tolist() == [1, 12.5, 60]
    assert rides.records()[0] == {"PULocationID": 3, "DOLocationID": 7, "trip_distance": 1.5}


def test_a_csv_with_the_columns_of_the_trip_files_is_read(trips: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "trips.csv"
    path.write_text(
        "lpep_pickup_datetime,lpep_dropoff_datetime,PULocationID,DOLocationID,trip_distance\n"
        "2021-01-01 08:00:00,2021-01-01 08:12:30,10,50,3.4\n"
        "2021-01-01 08:00:00,2021-01-01 08:12:30,10,,3.4\n"
        "2021-01-01 08:00:00,2021-01-01 07:12:30,10,50,3.4\n",
        encoding="utf-8",
    )
    rides = trips.read_trips(path)
    assert rides.records() == [{"PULocationID": 10, "DOLocationID": 50, "trip_distance": 3.4}]
    assert rides.minutes.tolist() == [12.5]


def test_names_of_zones_have_the_same_id_in_every_file(trips: ModuleType) -> None:
    assert trips.zone_id("Lenox Hill West") == 8378416
    assert trips.zone_id("Lenox Hill West") != trips.zone_id("Lenox Hill East")
    assert trips.zone_id("132") == 132


def test_the_sample_of_real_rides_is_read(trips: ModuleType) -> None:
    path = SHARED / "taxis.csv"
    if not path.is_file():
        pytest.skip(f"the sample of taxi rides is not there: {path}")
    rides = trips.read_trips(path)
    assert 3800 < len(rides) <= 4000
    assert len(set(rides.pickup.tolist())) > 150
    assert 10 < np.median(rides.minutes) < 13


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trips.csv", "pickup,dropoff\n", "lacks columns"),
        ("trips.csv", "pickup,dropoff,distance,pickup_zone,dropoff_zone\nx,y,1,a,b\n", "line 2: Invalid isoformat"),
        ("trips.txt", "", r"must be a \.parquet or a \.csv file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    trips: ModuleType, tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(importlib.import_module("datasets").DataError, match=message):
        trips.read_trips(path)

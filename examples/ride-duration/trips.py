"""Taxi trips: generated from a model of a city, or read from the monthly trip files (parquet) or from CSV."""

import csv
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from datasets import DataError

SHORTEST_MINUTES = 1.0
LONGEST_MINUTES = 60.0
LARGEST_ZONE = 2**24 - 1
"""Zone ids are below this, which a decision tree's single precision still tells apart."""
LONGEST_MILES = 1000.0

# The city of `generate`: GRID x GRID zones, each a square mile, numbered from 1 row by row.
GRID = 16
SPREAD_MILES = 3.0
"""How fast zones lose passengers away from the city's centre."""
REACH_MILES = 3.0
"""How fast drop-offs become fewer with the distance from the pick-up."""
DETOUR = 1.27
"""Street distance over distance as the crow flies; a grid of streets gives 4/pi."""
SPEED_BY_HOUR = (22, 23, 24, 25, 25, 22, 18, 14, 12, 11.5, 12, 12, 12, 12, 11.5, 11, 11, 10.5, 11, 12.5, 14, 16, 18, 20)
"""Miles an hour in an average zone, by hour of the day."""
RIDES_BY_HOUR = (3, 2, 1.5, 1, 0.8, 1, 2, 4, 5, 5, 5, 5, 5.5, 5.5, 5.5, 5.5, 5, 5.5, 6.5, 6.5, 6, 6, 5.5, 4.5)
"""Weight of each hour of the day."""
STOP_MINUTES = 1.2
"""Getting in, out and to the first street."""
NOISE = 0.16
"""Standard deviation of the logarithm of a trip's time: lights, weather, drivers."""

_TIMES = (
    ("tpep_pickup_datetime", "tpep_dropoff_datetime"),
    ("lpep_pickup_datetime", "lpep_dropoff_datetime"),
    ("pickup", "dropoff"),
)
_PLACES = (("PULocationID", "DOLocationID", "trip_distance"), ("pickup_zone", "dropoff_zone", "distance"))


@dataclass(frozen=True, slots=True)
class Trips:
    """Rides as columns: zone ids, miles and minutes."""

    pickup: np.ndarray
    dropoff: np.ndarray
    miles: np.ndarray
    minutes: np.ndarray

    def __len__(self) -> int:
        return len(self.minutes)

    def records(self) -> list[dict[str, Any]]:
        """Return the instances: one object a ride, as clients send them."""
        columns = zip(self.pickup.tolist(), self.dropoff.tolist(), self.miles.tolist(), strict=True)
        return [{"PULocationID": a, "DOLocationID": b, "trip_distance": miles} for a, b, miles in columns]

    def subset(self, rows: np.ndarray) -> "Trips":
        """Return the rides at ``rows`` (indexes or a mask)."""
        return Trips(self.pickup[rows], self.dropoff[rows], self.miles[rows], self.minutes[rows])

    def plausible(self) -> "Trips":
        """Return the rides of 1 to 60 minutes and 0 to 1,000 miles: others are meters left on or off by mistake."""
        time_fits = (self.minutes >= SHORTEST_MINUTES) & (self.minutes <= LONGEST_MINUTES)
        distance_fits = (self.miles >= 0) & (self.miles <= LONGEST_MILES)
        return self.subset(time_fits & distance_fits)


def generate(count: int, seed: int) -> Trips:
    """Return about ``count`` plausible rides of the described city; the same seed gives the same rides.

    Pick-ups fall off with the square of a zone's distance from the centre, drop-offs with the centre's pull and the
    ride's length. A ride's distance is that of two random points of its zones, times the detour. Its speed is the
    hour's, lower in the centre, higher the longer the ride (there are expressways); its time varies log-normally.
    """
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    centres = np.stack([row, column], axis=1) + 0.5
    from_centre = np.hypot(*(centres - GRID / 2).T)
    pull = np.exp(-((from_centre / SPREAD_MILES) ** 2) / 2) + 0.01
    apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    chance = pull[:, None] * pull[None] ** 0.5 * np.exp(-apart / REACH_MILES)
    pair = rng.choice(chance.size, size=count, p=chance.ravel() / chance.sum())
    pickup, dropoff = np.divmod(pair, GRID * GRID)

    start, end = (centres[zone] + rng.uniform(-0.5, 0.5, (count, 2)) for zone in (pickup, dropoff))
    miles = np.maximum(np.hypot(*(start - end).T) * DETOUR * rng.lognormal(0.0, 0.05, count), 0.1)
    hours = np.array(RIDES_BY_HOUR)
    hour_speed = np.array(SPEED_BY_HOUR, dtype=float)[rng.choice(24, size=count, p=hours / hours.sum())]
    centrality = (from_centre[pickup] + from_centre[dropoff]) / GRID
    speed = hour_speed * (0.8 + 0.5 * centrality) * np.minimum(1.0 + 0.07 * miles, 2.2)
    minutes = STOP_MINUTES + miles / speed * 60.0 * rng.lognormal(0.0, NOISE, count)
    return Trips(pickup + 1, dropoff + 1, miles.round(2), minutes).plausible()


def read_trips(path: Path) -> Trips:
    """Return the plausible rides of a file: the city's monthly parquet files, yellow or green, or CSV.

    CSV has the columns of those files or ``pickup, dropoff, distance, pickup_zone, dropoff_zone`` with names of zones.
    Rides that lack a value are left out. Raises DataError when columns are missing or a value cannot be read.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path).plausible()
    if path.suffix == ".csv":
        return _read_csv(path).plausible()
    raise DataError(f"{path} must be a .parquet or a .csv file")


def zone_id(name: str) -> int:
    """Return the id of a zone: a number stays itself, a name has the same id in every file."""
    if name.isdecimal():
        return int(name)
    return zlib.crc32(name.encode()) & LARGEST_ZONE


def _columns(path: Path, present: list[str], known_places: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return the names of a file's columns: pick-up time, drop-off time, pick-up zone, drop-off zone, miles."""
    times = next((pair for pair in _TIMES if set(pair) <= set(present)), None)
    places = next((names for names in known_places if set(names) <= set(present)), None)
    if times is None or places is None:
        raise DataError(
            f"{path} lacks columns: it needs tpep_ or lpep_pickup_datetime and _dropoff_datetime, PULocationID, "
            f"DOLocationID and trip_distance; or, in CSV, pickup, dropoff, pickup_zone, dropoff_zone and distance"
        )
    return (*times, *places)


def _read_parquet(path: Path) -> Trips:
    schema = pyarrow.parquet.read_schema(path)
    names = _columns(path, schema.names, _PLACES[:1])
    table = pyarrow.parquet.read_table(path, columns=list(names)).drop_null()
    started, ended, pickup, dropoff, miles = (table.column(name).to_numpy() for name in names)
    minutes = (ended - started) / np.timedelta64(1, "m")
    return Trips(pickup.astype(np.int64), dropoff.astype(np.int64), miles.astype(float), minutes.astype(float))


def _read_csv(path: Path) -> Trips:
    zones, numbers = [], []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = _columns(path, list(reader.fieldnames or []), _PLACES)
        for row in reader:
            values = [row[name] for name in names]
            if not all(values):
                continue
            started, ended, pickup, dropoff, miles = values
            try:
                took = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
                numbers.append((float(miles), took.total_seconds() / 60.0))
            except ValueError as error:
                raise DataError(f"{path}, line {reader.line_num}: {error}") from error
            zones.append((zone_id(pickup), zone_id(dropoff)))
    zone_columns = np.array(zones, dtype=np.int64).reshape(-1, 2)
    number_columns = np.array(numbers, dtype=float).reshape(-1, 2)
    return Trips(zone_columns[:, 0], zone_columns[:, 1], number_columns[:, 0], number_columns[:, 1])

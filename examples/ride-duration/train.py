"""Train ride-duration 1: a DictVectorizer and a random forest of 100 trees, from a ride to minutes."""

import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import skops.io
from datasets import DataError
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from training import HELD_OUT, SEED, finish, run, version_folder
from trips import LARGEST_ZONE, LONGEST_MILES, Trips, generate, read_trips

GENERATED = 20_000
MOST_ROWS = 60_000
"""A month has millions of rides; a random part of this size is what the forest learns from and is measured on."""

GOLDEN = [
    {"PULocationID": 10, "DOLocationID": 50, "trip_distance": 40},
    {"PULocationID": 120, "DOLocationID": 121, "trip_distance": 0.8},
    {"PULocationID": 1, "DOLocationID": 256, "trip_distance": 12.5},
    {"PULocationID": 120, "DOLocationID": 120, "trip_distance": 0},
    {"PULocationID": 99_999, "DOLocationID": 7, "trip_distance": 3.2, "color": "grün", "tip": None},
]

_ZONE = {"type": "integer", "minimum": 0, "maximum": LARGEST_ZONE}
INSTANCE_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "PULocationID": {**_ZONE, "description": "Zone of the pick-up"},
        "DOLocationID": {**_ZONE, "description": "Zone of the drop-off"},
        "trip_distance": {"type": "number", "minimum": 0, "maximum": LONGEST_MILES, "description": "Miles"},
    },
    "required": ["PULocationID", "DOLocationID", "trip_distance"],
    # Clients send whole rows of the trip files; what the model does not know it leaves alone.
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}
PREDICTION_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "duration": {"type": "number", "description": "Minutes"},
        "model_version": {"type": "string", "description": "The version that answered"},
    },
    "required": ["duration", "model_version"],
    "additionalProperties": False,
}


def make_pipeline() -> Pipeline:
    """Return the untrained pipeline. Trees are kept moderate so that a worker loads them in a fraction of a second."""
    forest = RandomForestRegressor(n_estimators=100, max_depth=10, min_samples_leaf=5, random_state=SEED)
    return Pipeline([("vectorizer", DictVectorizer(sparse=False)), ("forest", forest)])


def read_or_generate(data: Path | None) -> Trips:
    """Return the rides of a file, or generated ones; at most ``MOST_ROWS``."""
    if data is None:
        return generate(GENERATED, SEED)
    trips = read_trips(data)
    if len(trips) < 100:
        raise DataError(f"{data} has {len(trips)} rides of 1 to 60 minutes; 100 are the least to learn from")
    if len(trips) > MOST_ROWS:
        rows = np.random.default_rng(SEED).choice(len(trips), size=MOST_ROWS, replace=False)
        return trips.subset(rows)
    return trips


def train(output: Path, data: Path | None) -> None:
    """Train on four fifths, measure on the rest and write ``<output>/ride-duration/1``."""
    trips = read_or_generate(data)
    used, held = train_test_split(np.arange(len(trips)), test_size=HELD_OUT, random_state=SEED)
    origin = "generated rides" if data is None else f"rides of {data.name}"
    print(f"ride-duration: {len(used)} {origin} to train on, {len(held)} held out (seed {SEED})", flush=True)
    training, held_out = trips.subset(used), trips.subset(held)
    pipeline = make_pipeline().fit(training.records(), training.minutes)
    predicted = pipeline.predict(held_out.records())
    mae = mean_absolute_error(held_out.minutes, predicted)
    rmse = root_mean_squared_error(held_out.minutes, predicted)
    mean_mae = mean_absolute_error(held_out.minutes, np.full(len(held), training.minutes.mean()))
    print(
        f"ride-duration 1: MAE {mae:.2f} min, RMSE {rmse:.2f} min on held-out rides "
        f"(always answering the mean: MAE {mean_mae:.2f} min)",
        flush=True,
    )
    with version_folder(output, "ride-duration", "1") as folder:
        skops.io.dump(pipeline, folder / "model.skops", compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        values = {
            "name": "ride-duration",
            "version": "1",
            "description": "A taxi ride to minutes: DictVectorizer and a random forest of 100 trees",
            "framework": "sklearn",
            "artifact": "model.skops",
            "input": {"kind": "records"},
            "output": {"field": "duration", "version_field": "model_version"},
            "instance_schema": INSTANCE_SCHEMA,
            "prediction_schema": PREDICTION_SCHEMA,
            "metrics": {
                "mae_minutes": round(float(mae), 4),
                "rmse_minutes": round(float(rmse), 4),
                "mae_of_the_mean_minutes": round(float(mean_mae), 4),
                "train_rows": len(used),
                "held_out_rows": len(held),
            },
        }
        answers = zip(GOLDEN, pipeline.predict(GOLDEN).tolist(), strict=True)
        examples = [
            {"instance": ride, "prediction": {"duration": minutes, "model_version": "1"}} for ride, minutes in answers
        ]
        finish(folder, values, examples, data)


if __name__ == "__main__":
    run("Train the ride duration model.", train, "monthly trip file (.parquet) or .csv, instead of generated rides")

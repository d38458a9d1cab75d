"""The benchmark against the peers: what it makes of figures, without measuring any."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.cases import BenchmarkError
from benchmarks.load import parse_load
from benchmarks.peers import environments
from benchmarks.peers import results as store
from benchmarks.peers.environments import PeerUnavailableError, ensure_environment
from benchmarks.peers.kill import AFTER_SECONDS, BASE_SECONDS, KillResult, recovery
from benchmarks.peers.measure import Figures
from benchmarks.peers.memory import MemoryResult
from benchmarks.peers.models_served import FOREST_MODEL, PEER_MODELS, PeerModel, make_exchange
from benchmarks.peers.plot import svg
from benchmarks.peers.results import Results
from benchmarks.peers.running import same
from benchmarks.peers.steady_load import Account, load_steadily
from benchmarks.peers.subjects import SUBJECTS, find_subject
from benchmarks.peers.summary import best_peer, losses, medians, targets
from benchmarks.peers.tables import ALL_CONNECTIONS, markdown, missing
from benchmarks.peers.tree import parse_pss
from benchmarks.peers.wire import decode, encode, expected
from benchmarks.report import describe_machine

RIDE = {"PULocationID": 10, "DOLocationID": 50, "trip_distance": 4.5}


def figures(subject: str, model: str = "text", connections: int = 64, number: int = 1, **more: float) -> Figures:
    values = {"rate": 1000.0, "p50": 5.0, "p99": 9.0, "errors": 0, "cpu": 0.2, "rows_a_call": 8.0, "memory": 300.0}
    return Figures(model=model, subject=subject, round=number, connections=connections, **{**values, **more})  # type: ignore[arg-type]  # - errors is an int


@pytest.mark.usefixtures("trained_models")
@pytest.mark.parametrize("model", PEER_MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("own_forests", [False, True])
def test_each_model_gets_its_own_requests_and_answers(model: PeerModel, tmp_path: Path, *, own_forests: bool) -> None:
    made = make_exchange(replace(model, own_forests=own_forests), tmp_path, 1)
    assert len(made.instances) == len(made.predictions) == 400
    for instance, prediction in zip(made.instances, made.predictions, strict=True):
        assert instance.keys() >= model.inputs.keys()
        assert prediction.keys() >= model.outputs.keys()


def about(**more: object) -> dict[str, object]:
    whole = {
        "subjects": [subject.name for subject in SUBJECTS],
        "models": [model.name for model in PEER_MODELS],
        "connections": list(ALL_CONNECTIONS),
        "rounds": 2,
        "seconds": 3,
        "minutes": 10,
        "seed": 7,
        "complete": True,
    }
    return {**whole, **describe_machine(), **more}


def whole_results() -> Results:
    """Muleteer twice as fast as each peer, at half its CPU and a fifth of its memory, and slower at one connection."""
    found = Results(about={section: about() for section in ("speed", "kill", "memory")})
    for model in PEER_MODELS:
        for subject in SUBJECTS:
            ours = subject.name == "muleteer"
            for count in ALL_CONNECTIONS:
                rate = 100.0 if count == 1 and ours else 2000.0 if ours else 1000.0
                cost = {"rate": rate, "cpu": 0.1 if ours else 0.2, "memory": 300.0 if ours else 1500.0}
                found.figures.append(figures(subject.name, model.name, count, **cost))
    found.kills = [KillResult("text", one.name, 900.0, {}, 0.4, [900.0]) for one in SUBJECTS]
    found.memory = [MemoryResult("text", "muleteer", [280.0, *[300.0] * 10])]
    return found


def test_load_figures_count_an_answer_with_an_error_as_no_success() -> None:
    line = {"requests": 100, "microseconds": 2e6, "p50": 1500, "p99": 2500, "bad_statuses": 10, "broken": 3}
    load = parse_load(f"Running 2s test\n{json.dumps(line)}\n")
    assert (load.requests, load.rate, load.errors, load.p50_milliseconds) == (90, 45.0, 13, 1.5)


def test_load_output_without_figures_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="no figures: unable to connect"):
        parse_load("unable to connect")


def test_pss_is_read_in_bytes() -> None:
    assert parse_pss("00400000-7ffd [rollup]\nRss:  900 kB\nPss:   120 kB\nPss_Dirty: 60 kB\n") == 120 * 1024
    assert parse_pss("") == 0


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_each_protocol_carries_an_instance_there_and_its_prediction_back(subject: object) -> None:
    protocol = subject.protocol  # type: ignore[attr-defined]  # - a Subject
    sent = json.loads(encode(protocol, FOREST_MODEL, RIDE))
    prediction = {"duration": 12.5, "model_version": "1"}
    answers = {
        "plain": prediction,
        "list": [prediction],
        "v2": {"outputs": [{"name": "duration", "shape": [1, 1], "datatype": "FP64", "data": [12.5]}]},
    }
    fields = {
        "plain": lambda: sent,
        "list": lambda: sent["instances"][0],
        "v2": lambda: {one["name"]: one["data"][0] for one in sent["inputs"]},
    }
    assert fields[protocol]() == RIDE
    answer = decode(protocol, json.dumps(answers[protocol]).encode())
    assert same(answer, expected(protocol, FOREST_MODEL, prediction))


def test_answers_differ_by_more_than_rounding() -> None:
    assert same({"score": 0.5000000001}, {"score": 0.5})
    assert not same({"score": 0.51}, {"score": 0.5})
    assert not same({"score": 0.5, "more": 1}, {"score": 0.5})
    assert not same([0.5], {"score": 0.5})


def test_recovery_is_zero_when_the_throughput_never_falls() -> None:
    killed = 100.0
    steady = [killed - BASE_SECONDS + step / 100 for step in range(int((BASE_SECONDS + AFTER_SECONDS) * 100))]
    assert recovery(steady, killed, killed + AFTER_SECONDS) == 0.0


def test_recovery_is_the_end_of_the_gap() -> None:
    killed = 100.0
    steady = [killed - BASE_SECONDS + step / 100 for step in range(int((BASE_SECONDS + AFTER_SECONDS) * 100))]
    broken = [moment for moment in steady if not killed <= moment < killed + 2]
    found = recovery(broken, killed, killed + AFTER_SECONDS)
    # A second that begins 0.2 s before the end of the gap has 80% of its answers.
    assert found == pytest.approx(1.8, abs=0.11)


def test_a_throughput_that_stays_at_half_has_not_recovered() -> None:
    killed = 100.0
    before = [killed - BASE_SECONDS + step / 100 for step in range(int(BASE_SECONDS * 100))]
    after = [killed + step / 50 for step in range(int(AFTER_SECONDS * 50))]
    assert recovery(before + after, killed, killed + AFTER_SECONDS) is None


def test_medians_take_the_middle_round_and_the_sum_of_the_errors() -> None:
    rounds = [figures("ray", number=number, rate=rate, errors=1) for number, rate in enumerate((1.0, 50.0, 3.0), 1)]
    row = medians(rounds)["text", "ray", 64]
    assert (row.rate, row.errors, row.rounds) == (3.0, 3, 3)


def test_the_best_peer_is_never_muleteer() -> None:
    rows = medians([figures("muleteer", rate=9.0), figures("ray", rate=2.0), figures("rq", rate=1.0)])
    assert best_peer(rows, "text", 64) == "ray"
    assert best_peer(rows, "forest", 64) is None


def test_targets_hold_when_all_is_as_wanted() -> None:
    assert [target.what for target in targets(whole_results()) if target.held is not True] == []


def test_each_target_is_missed_by_figures_that_miss_it() -> None:
    results = whole_results()
    results.figures = [
        figures(
            one.subject,
            one.model,
            one.connections,
            rate=one.rate if one.subject != "muleteer" else 1590.0,
            cpu=one.cpu if one.subject != "muleteer" else 0.12,
            memory=one.memory if one.subject != "muleteer" else 510.0,
        )
        for one in results.figures
    ]
    results.memory = [MemoryResult("text", "muleteer", [280.0, 300.0, *[330.0] * 9])]
    results.kills = [KillResult("text", "muleteer", 900.0, {"status 502": 1}, 0.4, [900.0])]
    assert [target.what for target in targets(results) if target.held is not False] == []


def test_targets_without_figures_are_neither_held_nor_missed() -> None:
    assert {target.held for target in targets(Results())} == {None}
    short = Results(memory=[MemoryResult("text", "muleteer", [280.0, 300.0])])
    assert {target.held for target in targets(short)} == {None}


def test_losses_name_each_place_where_a_peer_is_faster() -> None:
    lines = losses(medians(whole_results().figures))
    assert len(lines) == len(PEER_MODELS)
    assert all("1 connection:" in line and "(0.10x)" in line for line in lines)


def test_the_page_of_a_whole_set_of_results_does_not_call_it_partial() -> None:
    page = markdown(whole_results())
    assert "partial" not in page
    assert "| Ray Serve 2.60, HAProxy |" in page
    assert "2.00x" in page


def test_the_page_says_what_a_partial_set_of_results_lacks() -> None:
    results = Results(about={"speed": about(models=["text"], connections=[64], complete=False)})
    results.figures = [figures("muleteer"), figures("ray")]
    sentences = " ".join(missing(results))
    assert "models noop, forest, fancy" in sentences
    assert "connections 1, 256" in sentences
    assert "The speed was not measured to the end" in sentences
    assert "**This set of results is partial.**" in markdown(results)


def test_a_system_that_cannot_be_measured_is_a_row_with_the_reason() -> None:
    results = Results(about={"speed": about()}, reasons={"speed ray text": "cannot be installed: no wheel"})
    results.figures = [figures("muleteer")]
    assert "| Ray Serve 2.60, HAProxy: cannot be installed: no wheel |  |" in markdown(results)


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    assert store.load(path) == Results()
    store.save(whole_results(), path)
    assert store.load(path) == whole_results()


def test_a_run_replaces_only_the_section_that_it_measures() -> None:
    results = whole_results()
    results.reasons = {"speed ray text": "gone", "kill ray text": "kept"}
    results.begin("speed", {"seed": 1})
    assert (results.figures, len(results.kills), results.reasons) == ([], len(SUBJECTS), {"kill ray text": "kept"})
    assert results.about["speed"]["complete"] is False


def test_the_plot_is_an_svg_with_a_bar_for_every_figure_that_it_shows() -> None:
    root = ET.fromstring(svg(whole_results()))  # noqa: S314 - our own drawing
    bars = root.findall(".//{http://www.w3.org/2000/svg}rect")
    legend, costs = 2, 2
    assert len(bars) == legend + len(SUBJECTS) * (2 * len(PEER_MODELS) + costs)


def test_the_plot_of_no_figures_says_so() -> None:
    assert svg(Results()).count("not measured") == len(SUBJECTS) * (len(PEER_MODELS) + 2)


def test_a_subject_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BenchmarkError, match="'rai': known are muleteer, fastapi1"):
        find_subject("rai")


def test_every_environment_has_requirements_that_are_pinned_by_hash() -> None:
    for name in {subject.environment for subject in SUBJECTS} - {""}:
        text = (environments.REQUIREMENTS / f"{name}.txt").read_text()
        assert text.count("--hash=sha256:") >= text.count("==") > 10, name


def test_an_environment_that_cannot_be_made_is_a_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "broken.txt").write_text("nothing-like-that==1.0 --hash=sha256:" + "0" * 64)
    failing = tmp_path / "uv"
    failing.write_text("#!/bin/sh\necho 'no such wheel' >&2\nexit 2\n")
    failing.chmod(0o755)
    monkeypatch.setattr(environments, "REQUIREMENTS", requirements)
    monkeypatch.setattr(environments, "PEERS", tmp_path / "peers")
    monkeypatch.setattr(environments, "UV", failing)
    with pytest.raises(PeerUnavailableError, match="cannot be installed"):
        ensure_environment("broken")
    assert not (environments.PEERS / "broken").exists()


async def test_the_steady_load_accounts_for_every_request() -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            asked += 1
            if asked % 10 == 3:
                break
            status = b"503 Service Unavailable" if asked % 10 == 7 else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    account = Account()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        until = time.monotonic() + 0.5
        await load_steadily(f"http://127.0.0.1:{port}/predict", [b"{}"], 3, until, 5.0, account)
    assert asked == len(account.answered) + sum(account.failed.values())
    assert account.failed["status 503"] == (asked + 3) // 10
    assert account.failed["broken off (IncompleteReadError)"] == (asked + 7) // 10

"""What a sweep's jobs are read as, of folders made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bvae.report import comparison, sweep_jobs
from bvae.report.sweep_jobs import read_rows


def written(folder: Path, seed: int, codes: np.ndarray, kl=1.0, factors=None, **more) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record = {"overrides": ["+g=1", f"seed={seed}"], "status": "finished", **more}
    (folder / "job.json").write_text(json.dumps(record))
    factors = np.arange(len(codes)) if factors is None else factors
    np.savez(folder / "codes.npz", codes=codes, factors=factors, kl=np.broadcast_to(kl, codes.shape[1:]))
    return folder


def test_a_jobs_row_is_what_its_files_say(tmp_path):
    folder = written(tmp_path / "a" / "0", 3, np.zeros((4, 2)), seconds=5.0)
    rows = [f"{step},{step + 0.5},{step},2" for step in range(25)]
    (folder / "metrics.csv").write_text("\n".join(("step,train/loss,train/reconstruction,train/kl", *rows)) + "\n")
    (folder / "latents.csv").write_text("unit,active,name\n4,True,pos X\n1,False,\n0,True,\n")
    score = {"protocol": "p", "n": 1, "seed": None, "seconds": 0}
    scores = {"mig": {**score, "value": 0.5, "higher_is_better": True}, "bad": {**score, "value": None}}
    (folder / "scores.json").write_text(json.dumps(scores))
    found = sweep_jobs._read(folder, "a/0")
    assert (found.name, found.keys, found.job.seconds) == ("a/0", {"g": "1", "seed": "3"}, 5.0)
    assert found.step == 25
    assert found.terms == {"loss": 20.0, "reconstruction": 19.5, "kl": 2.0}  # of the last ten, steps 15 to 24
    assert found.units == ((4, "pos X"), (0, ""))
    assert (found.scores, found.directions) == ({"mig": 0.5}, {"mig": True})
    bare = sweep_jobs._read(tmp_path / "none", "none")
    assert (bare.job.status, bare.step, bare.terms, bare.units, bare.scores) == ("running", None, {}, None, {})
    (folder / "metrics.csv").write_text("step,train/kl\n1,2\n")
    assert sweep_jobs._end(folder / "metrics.csv") == (None, {})
    (folder / "latents.csv").write_text("unit,active\n4,True\n")
    assert sweep_jobs._units(folder / "latents.csv") == ((4, ""),)


def test_jobs_of_one_setting_are_ranked_where_their_images_are_the_same(tmp_path):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(500, 3))

    def ranked() -> list[float | None]:
        return [found.scores.get("udr") for found in read_rows(tmp_path)]

    for seed in range(2):
        written(tmp_path / str(seed), seed, shared)
    assert min(ranked()) > 0.85
    assert [found.name for found in read_rows(tmp_path)] == ["0", "1"]
    written(tmp_path / "1", 1, shared, factors=np.arange(500)[::-1])
    assert ranked() == [None, None]
    # Units of a hundredth of a nat or less don't count: the first's third does, which the other hasn't.
    written(tmp_path / "0", 0, shared, kl=[1.0, 1.0, 0.011])
    written(tmp_path / "1", 1, np.column_stack((shared[:, :2], rng.normal(size=500))), kl=[1.0, 1.0, 0.01])
    first, second = ranked()
    assert first == pytest.approx(second)
    assert 0.5 < first < 0.8
    written(tmp_path / "0", 0, shared, kl=[1.0, 1.0, 0.01])
    assert min(ranked()) > 0.85
    written(tmp_path / "1", 1, shared, status="failed")
    assert ranked() == [None, None]
    (tmp_path / "1" / "codes.npz").unlink()
    written(tmp_path / "1", 1, shared[:, :2], kl=1.0)
    assert None not in ranked()
    written(tmp_path / "1", 1, shared[:, :1], kl=np.array([1.0]))
    with (tmp_path / "1" / "codes.npz").open("wb") as file:
        np.savez(file, codes=shared, factors=np.arange(500), kl=np.ones(2))
    assert ranked() == [None, None]  # whose arrays don't fit


def test_a_sweep_is_called_by_its_keys(tmp_path):
    assert comparison._title({"a": ["1", "2"], "b": ["x"] * 3}, tmp_path) == "a=1,2 b=x,x,x"
    forty = ["1234567"] * 5  # with four commas 39 letters
    assert comparison._title({"a": [*forty[:-1], "12345678"]}, tmp_path).startswith("a=1234567,")
    assert comparison._title({"a": [*forty[:-1], "123456789"]}, tmp_path) == "a (5 values)"
    assert comparison._title({}, tmp_path) == tmp_path.name
    typed = {"0.000114285": "0.000114", "0.000114": "0.000114", "abcdefghij": "abcdefghij", "12345678": "12345678"}
    for value, said in (typed | {"123456789": "123000000"}).items():
        assert comparison._rounded(value) == said


def test_the_best_of_several_is_chosen_by_a_results_direction():
    found = {"a": {"mig": 0.5, "irs": 0.5, "n": 1.0, "sap": 1.0}, "b": {"mig": 0.7, "irs": 0.7, "n": 2.0}, "c": {}}
    job = sweep_jobs.Row(
        Path("/a"), "a", sweep_jobs.Job((), "finished"), {}, directions={"mig": True, "irs": False, "sap": True}
    )
    # Of one there is no best, and what has no direction has none.
    assert comparison._best(list(found), found.__getitem__, [job]) == {"mig": "b", "irs": "a"}

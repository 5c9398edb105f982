"""How metrics.csv is written, taken back to a step, and kept whole."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from bvae.loggers import MetricsFile, rewind


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_rows_are_appended_and_a_new_quantity_gets_a_column(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(str(tmp_path))
    logger.save()
    assert not path.exists()  # nothing was logged
    for step, metrics in ((0, {"b": 1.0, "a": 2.0}), (1, {"a": 3.0, "b": 4.0}), (2, {"c": 5.0})):
        logger.log_metrics(metrics, step)
    header, *rows = csv.DictReader(path.open(newline="")), *lines(path)[1:]
    assert set(header.fieldnames) == {"a", "b", "c", "step"}
    assert len(rows) == 3  # each is on the disk at once
    assert [(row["a"], row["b"], row["c"], row["step"]) for row in header] == [
        ("2.0", "1.0", "", "0"),
        ("3.0", "4.0", "", "1"),
        ("", "", "5.0", "2"),
    ]
    again = MetricsFile(str(tmp_path))
    first = lines(path)
    again.log_metrics({"a": 6.0}, 3)
    assert lines(path)[:4] == first
    assert len(lines(path)) == 5


def test_rows_that_cant_be_written_are_kept_and_it_is_said_once(tmp_path, monkeypatch, caplog):
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(str(tmp_path))
    logger.log_metrics({"a": 1.0}, 0)
    full = [True]

    def fsync(descriptor):  # where a network's file system says that it has no room
        if full[0]:
            raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fsync)
    before = path.read_bytes()
    with caplog.at_level(logging.ERROR):
        logger.log_metrics({"a": 2.0}, 1)
        logger.log_metrics({"a": 3.0}, 2)
    assert path.read_bytes() == before  # no half of a row
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no room" in caplog.text
    full[0] = False
    logger.log_metrics({"a": 4.0}, 3)
    assert [row["a"] for row in csv.DictReader(path.open(newline=""))] == ["1.0", "2.0", "3.0", "4.0"]
    full[0] = True
    logger.log_metrics({"a": 5.0}, 4)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("step", "ends", "kept"),
    [
        (20, False, "a b c d"),
        (20, True, "a b c"),
        (19, False, "a b"),
        (10, False, "a b"),
        (10, True, "a"),
        (9, True, ""),
    ],
)
def test_a_run_goes_back_to_the_rows_of_its_checkpoints_step(tmp_path, step, ends, kept):
    path = tmp_path / "metrics.csv"
    rows = {"a": "9,1,,", "b": "10,,2,", "c": "19,,,3", "d": "20,,4,", "e": "29,5,,"}
    path.write_text("\n".join(("step,train/loss,scores/mig,val/loss", *rows.values())) + "\n")
    rewind(path, step, ends)
    assert lines(path)[1:] == [rows[name] for name in kept.split()]
    rewind(tmp_path / "none.csv", 1)
    assert not (tmp_path / "none.csv").exists()


def test_lost_rows_are_said_where_it_is_known_how_far_they_are_apart(tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n999,1\n2999,1\n3999,1\n")
    rewind(path, 6_000)
    assert caplog.text == ""
    rewind(path, 6_000, every=1_000)
    assert "has lost the rows of steps 1,001 to 3,000, 4,001 to 6,000: the curves" in caplog.text
    assert np.array_equal([row.split(",")[0] for row in lines(path)[1:]], ["999", "2999", "3999"])

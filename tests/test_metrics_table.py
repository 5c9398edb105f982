"""How metrics.csv is read."""

from __future__ import annotations

import pytest

from bvae.runs.metrics_table import has_terms, lost_rows, metrics_table, read_rows, steps_done


def test_rows_of_terms_count_the_steps_before_their_own():
    for row, done, terms in (
        ({"step": "9", "train/loss": "3"}, 10, True),
        ({"step": "9", "train/loss": "", "val/loss": "3"}, 10, True),
        ({"step": "9", "train/loss": "", "scores/mig": "1"}, 9, False),
        ({"step": "9"}, 9, False),
        ({"step": "0", "train/loss": "0.0"}, 1, True),
    ):
        assert (steps_done(row), has_terms(row)) == (done, terms)


def test_a_table_has_a_column_a_quantity_over_the_steps_done(tmp_path):
    path = tmp_path / "metrics.csv"
    assert metrics_table(path) == {}
    lines = [
        "epoch,step,train/loss,train/kl,scores/mig,empty",
        "0,9,3,0.5,,",
        "0,10,,,0.1,",
        "0,19,2,,,",
        "1,20,,,0.25,",
    ]
    path.write_text("\n".join(lines) + "\n2,29,1,")  # the last line is torn
    found = metrics_table(path)
    assert list(found) == ["train/loss", "train/kl", "scores/mig"]
    assert {name: (column.steps.tolist(), column.values.tolist()) for name, column in found.items()} == {
        "train/loss": ([10, 20], [3, 2]),
        "train/kl": ([10], [0.5]),
        "scores/mig": ([10, 20], [0.1, 0.25]),
    }
    path.write_text("step,train/loss,val/loss,val/mig\n9,3,4,0.5\n")
    assert list(metrics_table(path)) == ["train/loss", "val/loss", "scores/mig"]
    path.write_text("step,train/loss\n9,3")
    assert (metrics_table(path), read_rows(path)) == ({}, (["step", "train/loss"], []))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("step,a\n1,2\n3\n", 3),
        ("step,a\n1,2,3\n", 2),
        ("step,a\nx,2\n", 2),
        ("step,a\n1.5,2\n", 2),
        ("a\n2\n", 2),
        ("step,a\n1,2\n2,x\n", 3),
    ],
)
def test_a_row_that_is_damaged_is_named_by_its_line(tmp_path, text, line):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"metrics\.csv is damaged: line {line}: "):
        read_rows(path)


def test_more_rows_than_a_training_logs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bvae.runs.metrics_table._MOST_ROWS", 2)
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,\n2,\n")
    assert read_rows(path) == (["step", "a"], [{"step": "1", "a": ""}, {"step": "2", "a": ""}])
    path.write_text("step,a\n1,\n2,\n3,\n")
    with pytest.raises(ValueError, match="it has more than 2 rows"):
        read_rows(path)


def test_a_stretch_is_lost_if_it_is_longer_than_its_neighbours_and_than_rows_are_apart_now():
    def lost(*steps, last, every=10):
        return lost_rows([{"step": str(step - 1), "train/loss": "1"} for step in steps], last, every)

    assert lost(10, 20, last=20) == []
    assert lost(10, 20, last=31) == [(21, 31)]
    assert lost(10, 20, last=30) == []
    assert lost(11, 21, last=21) == [(1, 11)]
    assert lost(30, 60, 90, last=90) == []  # all as far apart, and longer than now
    assert lost(30, 40, 61, 71, last=71) == [(1, 30), (41, 61)]
    assert lost(5, 5, 10, last=10, every=5) == []
    assert lost(last=11) == [(1, 11)]
    rows = [{"step": "9", "scores/mig": "1"}, {"step": "19", "train/loss": ""}]  # which say nothing of the terms
    assert lost_rows(rows, 11, 10) == [(1, 11)]

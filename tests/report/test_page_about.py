"""How a run's page says what the run was: its title, its command, its settings."""

from __future__ import annotations

import html
import json
import platform
import re
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
import yaml
from test_page import headings, plain, rows, section

from bvae.evaluation import Evaluation, LatentUnit
from bvae.metrics import Codes
from bvae.report import page, report


def test_a_run_is_described_by_its_records(tmp_path):
    run = tmp_path / "7"
    (run / ".hydra").mkdir(parents=True)
    overrides = ["loss.beta=4", "name=a b"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.dump(overrides))
    config = {
        "seed": 3,
        "loss": {"_target_": "bvae.losses.Beta", "_convert_": "all", "beta": 4.0, "likelihood": {"_target_": "a.B"}},
        "trainer": {"max_steps": 10, "precision": None, "devices": 1},
        "lossy": 1,
        "model": {"layers": [1, 2], "none": None},
    }
    (run / ".hydra" / "config.yaml").write_text(yaml.dump(config, sort_keys=False))
    job = {"overrides": [], "status": "finished", "seconds": 3_661.0, "machine": "a GPU", "commit": "abc"}
    (run / "job.json").write_text(json.dumps(job))
    codes = Codes(torch.zeros(3, 1), None, torch.zeros(3, 0))
    parameters, source = {"encoder": 12_345, "decoder": 6}, {"checkpoint": "last.ckpt", "step": 1_000}
    found = Evaluation(codes, None, [LatentUnit(0, 0.1, 1.0, True)], [], parameters=parameters, source=source)
    text = report(run, found).read_text(encoding="utf-8")
    assert "<title>loss.beta=4 name=a b · bvae</title>" in text
    assert re.search(r'<p class="quiet">7 · \d{4}-\d\d-\d\d \d\d:\d\d \S+</p>', text)
    assert "<pre>python train.py loss.beta=4 &#39;name=a b&#39;</pre>" in section(text, "run")
    about = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section(text, "run")))
    names = ("bvae", "torch", "lightning")
    assert {html.unescape(key): plain(value) for key, value in about.items()} == {
        "duration": "1 h 1 min",
        "hardware": "a GPU",
        "commit": "abc",
        "encoder's parameters": "12,345",
        "decoder's parameters": "6",
        "checkpoint": "last.ckpt",
        "step": "1,000",
        "versions": ", ".join([*(f"{n} {version(n)}" for n in names), f"Python {platform.python_version()}"]),
    }
    assert rows(section(text, "settings")) == [
        ["seed", "3"],
        ["loss", "Beta"],
        ["loss.beta", "4.0"],
        ["loss.likelihood", "B"],
        ["trainer.max_steps", "10"],
        ["model.layers", "[1, 2]"],
    ]
    assert "devices: 1" in section(text, "settings")  # of the whole configuration
    assert headings(text)[-1] == "settings"
    for seconds, said in ((61.4, "1 min 1 s"), (3_599.6, "1 h 0 min"), (0.0, "0 min 0 s")):
        (run / "job.json").write_text(json.dumps(job | {"seconds": seconds, "commit": ""}))
        text = report(run, found).read_text(encoding="utf-8")
        assert f"<dt>duration</dt><dd>{said}</dd>" in text
        assert "<dt>commit</dt>" not in text


def test_a_run_is_called_by_its_overrides_its_folder_or_its_path(tmp_path):
    folder = tmp_path / "run"
    assert page.title_of(folder / "a.pt") == str(folder / "a.pt")
    (folder / ".hydra").mkdir(parents=True)
    assert page.title_of(folder) == "run"
    (folder / ".hydra" / "overrides.yaml").write_text("[]")
    assert page.title_of(folder) == "run"
    (folder / ".hydra" / "overrides.yaml").write_text("[a=1, b=2]")
    assert page.title_of(folder) == "a=1 b=2"
    (folder / ".hydra" / "overrides.yaml").write_text("{a: 1}")
    assert page.title_of(folder) == "run"


def test_a_template_is_filled_with_escaped_text_and_refuses_what_is_missing():
    made = page._environment()
    assert (
        made.from_string("{{ a }} {{ b|signed }} {{ c|nats }} {{ d|significant(2) }} {{ e|readable }}").render(
            SimpleNamespace(a="<b>", b=-0.5, c=1.234, d=1.234, e=0.5).__dict__
        )
        == "&lt;b&gt; −0.50 1.23 1.2 0.500"
    )
    with pytest.raises(Exception, match="'a' is undefined"):
        made.from_string("{{ a }}").render()

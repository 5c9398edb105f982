"""A sweep's jobs in one process: which go together, and what each has for itself."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from threading import current_thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from torch import nn

from bvae.app.together import Turn, enter, kind, train_as_one
from bvae.callbacks import StepProgress, Throughput, WakeIdleUnits
from bvae.losses import ELBO
from bvae.training import Training


class OwnWaking(WakeIdleUnits):
    """A user's own kind of it."""


JOB = {
    "model": {"latent_dim": 10},
    "data": {"seed": 0, "batch_size": 64, "cache_dir": "${output_dir}/data"},
    "trainer": {"devices": 1, "precision": "32-true", "max_steps": 9, "default_root_dir": "${output_dir}"},
    "callbacks": {"throughput": {"_target_": "bvae.callbacks.Throughput"}, "none": None},
    **{"compile": None, "capture": False, "loss": {"beta": 1}, "optimizer": {"lr": 1}, "seed": 0, "output_dir": "here"},
}


def kind_of(**changed) -> str | None:
    """The kind of a job that differs in these keys, whose dots are written __."""
    job = OmegaConf.create(JOB)
    for key, value in changed.items():
        OmegaConf.update(job, key.replace("__", "."), value, force_add=True)
    return kind(job)


def test_jobs_go_together_that_differ_in_what_is_each_ones_own():
    alike = [
        {},
        {"loss__beta": 4},
        {"optimizer__lr": 2},
        {"seed": 1},
        {"data__seed": 1},
        {"callbacks__throughput": None},
    ]
    kinds = [kind_of(**changed) for changed in alike]
    assert len(set(kinds)) == 1
    assert isinstance(kinds[0], str)
    others = [{"model__latent_dim": 9}, {"data__batch_size": 8}, {"trainer__max_steps": 8}, {"compile": "default"}]
    others += [{"capture": True}, {"trainer__precision": "bf16-mixed"}, {"output_dir": "there"}]
    kinds += [kind_of(**changed) for changed in others]
    assert len(set(kinds)) == 1 + len(others)
    assert None not in kinds
    of_mine = {"data": {"batch_size": 64, "cache_dir": "here/data"}}  # which has no seed
    assert kind(OmegaConf.create(JOB | of_mine)) == kinds[0]
    assert kind_of(data__cache_dir="data", output_dir="there") == kind_of(data__cache_dir="data")  # the trainer's own


@pytest.mark.parametrize(
    "changed",
    [
        {"trainer__devices": 2},
        {"trainer__devices": "auto"},
        {"trainer__num_nodes": 2},
        {"trainer__precision": 16},
        {"trainer__precision": "16-mixed"},
        {"callbacks__wake": {"_target_": "bvae.callbacks.WakeIdleUnits"}},
        {"callbacks__wake": {"_target_": f"{__name__}.OwnWaking"}},
        {"model__latent_dim": "${hydra:job.num}"},  # which only the job itself can resolve
    ],
    ids=str,
)
def test_a_job_is_trained_alone_whose_steps_are_another_kind_of_step(changed):
    assert kind_of(**changed) is None


def seed(number: int) -> None:
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(number)


def drawn() -> list[float]:
    return [random.random(), np.random.random(), torch.rand((), dtype=torch.float32).item()]


def held() -> list:
    """What else a process has once."""
    handlers = list(logging.getLogger().handlers)
    return [torch.get_default_dtype(), os.getcwd(), HydraConfig.instance().cfg, handlers]


def test_what_a_process_has_once_each_job_has_for_itself(tmp_path):
    """Two jobs in turns, each of which changes all of it before it first waits."""
    expected = {}
    for number in (5, 1, 2):  # the caller and two jobs
        seed(number)
        expected[number] = [drawn() for _ in range(4)]

    def job(number: int, dtype: torch.dtype):
        def run():
            own = [dtype, str(tmp_path / str(number)), number, [*held()[3], logging.NullHandler()]]
            Path(own[1]).mkdir()
            os.chdir(own[1])
            torch.set_default_dtype(dtype)
            HydraConfig.instance().cfg = number
            logging.getLogger().addHandler(own[3][-1])
            seed(number)
            for time in range(3):
                assert (held(), drawn()) == (own, expected[number][time])
                current_thread().wait()

        return run

    before = held()
    turns = [Turn(job(1, torch.float64), lambda turn: True, {}), Turn(job(2, torch.float32), lambda turn: True, {})]
    seed(5)
    for time in range(4):
        for turn in turns:
            assert not turn.ended
            turn.go_on()
        assert (held(), drawn()) == (before, expected[5][time])
    assert all(turn.ended for turn in turns)


def test_a_job_raises_in_the_callers_thread_and_gives_its_result():
    def fails():
        current_thread().wait()
        raise KeyboardInterrupt

    failing, well = (Turn(job, lambda turn: True, {}) for job in (fails, lambda: 7))
    failing.go_on()
    assert not failing.ended
    with pytest.raises(KeyboardInterrupt):
        failing.go_on()
    well.go_on()
    assert (failing.ended, failing.result, well.ended, well.result, well.error) == (True, None, True, 7, None)
    assert failing.daemon  # it doesn't keep the program from ending


def assembled() -> SimpleNamespace:
    training = Training(nn.Linear(4, 4), nn.Linear(2, 4), ELBO())
    for part in (training.model.encoder, training.model.decoder):
        part._compiled_call_impl = "compiled"
    trainer = SimpleNamespace(callbacks=[StepProgress(), Throughput()])
    return SimpleNamespace(training=training, trainer=trainer, datamodule=SimpleNamespace(resident=None))


def test_a_job_enters_its_group_and_one_alone_is_left_as_it_is():
    alone = assembled()
    enter(alone)
    assert alone.training.step_terms is None
    assert alone.datamodule.resident is None
    assert alone.training.model.encoder._compiled_call_impl == "compiled"

    run, resident, asked = assembled(), {}, []
    turn = Turn(lambda: enter(run), lambda turn: asked.append(turn) or "speaks", resident)
    turn.go_on()
    assert run.training.step_terms is turn.member
    assert (turn.member.training, turn.member.wait) == (run.training, turn.wait)
    assert run.datamodule.resident is resident
    assert run.training.model.encoder._compiled_call_impl is run.training.model.decoder._compiled_call_impl is None
    assert run.trainer.callbacks[0].speaks() == "speaks"
    assert asked == [turn]
    own = assembled()
    del own.datamodule.resident  # a user's own data module
    Turn(lambda: enter(own), lambda turn: True, resident).go_on()
    assert not hasattr(own.datamodule, "resident")


def test_one_job_of_those_that_go_on_speaks_and_all_share_the_images(monkeypatch):
    spoken, stepped, residents = [], [], []

    class Group:
        def __init__(self, compile_mode):
            stepped.append(compile_mode)

        def step(self, members):
            stepped.append(members)

    monkeypatch.setattr("bvae.together.Group", Group)

    def job(number, steps):
        def run():
            turn = current_thread()
            turn.member = number
            residents.append(turn.resident)
            for _ in range(steps):
                turn.wait()
                if turn.speaks(turn):
                    spoken.append(number)
            return number * 10

        return run

    assert train_as_one([job(0, 1), job(1, 3), job(2, 2)], "a mode") == [0, 10, 20]
    assert stepped == ["a mode", [0, 1, 2], [1, 2], [1]]
    assert spoken == [0, 1, 1]
    assert residents[0] is residents[1] is residents[2]

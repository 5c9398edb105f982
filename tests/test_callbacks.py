"""When a training saves, draws, ends and says how fast it is: callbacks beside a trainer of a few attributes."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from bvae.callbacks import GracefulInterrupt, InformationCheck, LatentPictures, StepCheckpoint, Throughput
from bvae.callbacks.steps import NewStep
from bvae.evaluation.features import LayerFeatures

HANDLED = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


def test_a_step_is_new_once_also_where_the_training_goes_on_from_a_checkpoint():
    trainer = SimpleNamespace(global_step=7)
    is_new = NewStep(trainer)
    found = []
    for step in (7, 8, 8, 8, 9, 11):
        trainer.global_step = step
        found.append(is_new(trainer))
    assert found == [False, True, False, False, True, True]


@pytest.fixture
def handlers():
    """The handlers that others have, each of which notes its calls."""
    called = []
    before = {name: signal.getsignal(getattr(signal, name)) for name in HANDLED}
    others = {name: lambda signum, frame: called.append((signum, frame)) for name in HANDLED}
    for name, handler in others.items():
        signal.signal(getattr(signal, name), handler)
    yield others, called
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


class Interrupted:
    """A training that is one step on since it started, or went on, at step 7."""

    def __init__(self, tmp_path, asked=None, others=0, world_size=1):
        self.saved, self.reduced = [], []

        def reduce(tensor, reduce_op):
            self.reduced.append((float(tensor), reduce_op))
            return torch.maximum(tensor, torch.tensor(float(others)))

        strategy = SimpleNamespace(reduce=reduce)
        self.trainer = SimpleNamespace(world_size=world_size, global_step=7, should_stop=False, strategy=strategy)
        self.trainer.save_checkpoint = self.saved.append
        self.callback = GracefulInterrupt(str(tmp_path), *([] if asked is None else [lambda: asked]))
        self.callback.on_train_start(self.trainer, None)

    def ends_batch(self, step=8):
        self.trainer.global_step = step
        self.callback.on_train_batch_end(self.trainer, SimpleNamespace(device="cpu"), None, None, 0)


def test_ctrl_c_ends_a_training_with_its_step_and_a_second_one_is_the_others(handlers, tmp_path):
    others, called = handlers
    training = Interrupted(tmp_path)
    training.ends_batch()
    assert (training.trainer.should_stop, training.reduced) == (False, [])
    signal.raise_signal(signal.SIGINT)
    training.ends_batch(8)  # a batch of a gradient that is being accumulated
    assert not training.trainer.should_stop
    training.ends_batch(9)
    assert training.trainer.should_stop
    assert (training.saved, called) == ([], [])
    signal.raise_signal(signal.SIGINT)
    assert called[0][0] == signal.SIGINT
    training.callback.on_train_end(training.trainer, None)
    assert all(signal.getsignal(getattr(signal, name)) is handler for name, handler in others.items())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_scheduler_gets_a_checkpoint_and_a_handler_of_its_own_is_called_after_it(name, handlers, tmp_path):
    _, called = handlers
    training, signum = Interrupted(tmp_path), getattr(signal, name)
    training.trainer.save_checkpoint = lambda path: training.saved.append((path, list(called)))
    signal.raise_signal(signum)
    with pytest.raises(SystemExit) as ended:
        training.ends_batch()
    training.callback.on_exception(training.trainer, None, ended.value)
    assert ended.value.code == 75
    assert training.saved == [(Path(tmp_path) / "step-8.ckpt", [])]
    assert called == ([] if name == "SIGTERM" else [(signum, None)])  # SIGTERM's would end it without its files
    assert all(signal.getsignal(getattr(signal, other)) is handlers[0][other] for other in HANDLED)


def test_all_of_several_processes_end_with_the_one_that_was_asked(tmp_path):
    told = Interrupted(tmp_path, others=signal.SIGTERM, world_size=2)
    with pytest.raises(SystemExit):
        told.ends_batch()
    assert (len(told.saved), told.reduced) == (1, [(0.0, "max")])
    ctrl_c = Interrupted(tmp_path, others=signal.SIGINT, world_size=2)
    ctrl_c.ends_batch()
    assert (ctrl_c.trainer.should_stop, ctrl_c.saved) == (True, [])
    for training in (told, ctrl_c):
        training.callback.on_train_end(None, None)


def test_a_thread_takes_no_signals_and_learns_of_them_by_asking(handlers, tmp_path):
    found = []

    def run():
        training = Interrupted(tmp_path, asked=signal.SIGINT)
        found.append([signal.getsignal(getattr(signal, name)) for name in HANDLED])
        training.ends_batch()
        found.append(training.trainer.should_stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [[handlers[0][name] for name in HANDLED], True]


def checkpoints(folder: Path, prefix: str = "resume-step-") -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(prefix))


NEWEST = {"monitor": "step", "mode": "max", "save_top_k": 2, "every_n_train_steps": 5}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, ["resume-step-1000.ckpt", "resume-step-20.ckpt"]),
        ({"save_top_k": 1}, ["resume-step-1000.ckpt"]),
        ({"save_top_k": 9}, None),
        ({"save_top_k": -1}, None),
        ({"mode": "min"}, None),
        ({"monitor": "train/loss"}, None),
        ({"filename": "resume-step"}, None),
        ({"filename": "resume-step-{step}-{epoch}"}, None),
        ({"filename": "resume.step-{step}"}, None),  # a dot is a dot
    ],
    ids=str,
)
def test_the_newest_checkpoints_of_a_folder_are_kept_by_their_steps(options, kept, tmp_path):
    every = [f"resume-step-{step}.ckpt" for step in (5, 9, 20, 1000)]
    others = ["resume-step-x.ckpt", "resume-step-3.ckpt.partial", "step-2.ckpt", "my-resume-step-2.ckpt", "last.ckpt"]
    for name in (*every, *others):
        (tmp_path / name).touch()
    trainer = SimpleNamespace(strategy=SimpleNamespace(remove_checkpoint=Path.unlink))
    callback = StepCheckpoint(tmp_path, **{"filename": "resume-step-{step}", **NEWEST} | options)
    callback._remove_older(trainer)
    assert {path.name for path in tmp_path.iterdir()} == {*(every if kept is None else kept), *others}


def test_checkpoints_are_saved_once_a_step_and_older_ones_removed_where_one_was(tmp_path, monkeypatch):
    saved, removed = [], []
    monkeypatch.setattr(ModelCheckpoint, "on_train_start", lambda *_: None)
    monkeypatch.setattr(
        ModelCheckpoint, "on_train_batch_end", lambda self, trainer, *_: saved.append(trainer.global_step)
    )
    callback = StepCheckpoint(tmp_path, "step-{step}", **NEWEST)
    callback._remove_older = lambda trainer: removed.append(trainer.global_step)
    trainer = SimpleNamespace(global_step=3, is_global_zero=True)
    callback.on_train_start(trainer, None)
    for step in (3, 4, 5, 5, 6, 10):
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, None, None, 0)
    trainer.global_step, trainer.is_global_zero = 15, False
    callback.on_train_batch_end(trainer, None, None, None, 0)
    assert (saved, removed) == ([4, 5, 6, 10, 15], [5, 10])


def test_callbacks_say_how_often_they_look(tmp_path):
    assert StepCheckpoint(tmp_path, every_n_train_steps=5).every_n_steps == 5
    assert StepCheckpoint(tmp_path, every_n_epochs=1).every_n_steps == 1
    assert LatentPictures(str(tmp_path), 40).every_n_steps == 40
    for callback in (GracefulInterrupt(""), InformationCheck(), Throughput()):  # at the logging steps alone
        assert callback.every_n_steps is None


class Drawn:
    """A training of 12 steps whose pictures come every second step."""

    def __init__(self, monkeypatch, tmp_path, features=(), error=lambda step: None):
        self.drawn, self.logged, self.features, self.error = [], [], list(features), error
        self.trainer = SimpleNamespace(
            datamodule=SimpleNamespace(predict_dataloader=list), global_step=0, estimated_stepping_batches=12
        )
        self.trainer.is_global_zero, self.trainer.loggers = True, ["first", "second"]
        self.training = SimpleNamespace(model=object())
        self.found = SimpleNamespace(features=self.features)
        monkeypatch.setattr("bvae.callbacks.pictures.evaluate", self.evaluate)
        monkeypatch.setattr("bvae.callbacks.pictures.log_evaluation", lambda *given: self.logged.append(given))
        self.metrics = {"mig": None}
        self.callback = LatentPictures(str(tmp_path), 2, self.metrics)
        self.folder = tmp_path
        self.callback.on_train_start(self.trainer, self.training)

    def evaluate(self, model, datamodule, folder, scoring, final):
        assert (model, datamodule, folder) == (self.training.model, self.trainer.datamodule, self.folder)
        assert (scoring.sample, scoring.every_image, final) == (self.metrics, None, False)
        self.drawn.append(self.trainer.global_step)
        if (error := self.error(self.trainer.global_step)) is not None:
            raise error
        return self.found

    def run(self, steps):
        for step in steps:
            self.trainer.global_step = step
            self.callback.on_train_batch_end(self.trainer, self.training, None, None, 0)
        return self


def test_pictures_come_at_their_interval_but_not_at_the_last_step(monkeypatch, tmp_path):
    drawn = Drawn(monkeypatch, tmp_path).run([0, 1, 2, 2, 3, 4, *range(5, 13)])
    assert drawn.drawn == [2, 4, 6, 8, 10]
    assert drawn.logged == [(logger, drawn.found, step) for step in drawn.drawn for logger in ("first", "second")]
    drawn.trainer.is_global_zero = False
    assert drawn.run([14, 15, 16]).drawn == [2, 4, 6, 8, 10]


def test_a_full_disk_is_named_once_until_there_is_room(monkeypatch, tmp_path, caplog):
    full = OSError(errno.ENOSPC, "no space left")
    drawn = Drawn(monkeypatch, tmp_path, error=lambda step: full if step in (2, 4, 8) else None).run(range(1, 11))
    assert drawn.drawn == [2, 4, 6, 8, 10]
    assert [step for _, _, step in drawn.logged[::2]] == [6, 10]
    assert caplog.text.count("the training continues without them") == 2  # at 2, and after 6 at 8
    with pytest.raises(PermissionError):
        Drawn(monkeypatch, tmp_path, error=lambda step: PermissionError(errno.EACCES, "not yours")).run([2])


def test_dying_features_are_named_once(monkeypatch, tmp_path, caplog):
    drawn = Drawn(monkeypatch, tmp_path).run([2])
    assert caplog.text == ""
    drawn.features.append(LayerFeatures("encoder_1", 20, 32, True))
    drawn.run([4, 6])
    assert caplog.text.count("at step 4 dead features, constant over all images: 20 of 32 channels of encoder_1") == 1
    assert "at step 6" not in caplog.text


@pytest.mark.parametrize("several", [1, 3])
def test_the_speed_is_that_of_all_processes_and_leaves_out_what_comes_between_two_intervals(monkeypatch, several):
    now = [10.0]
    monkeypatch.setattr("bvae.callbacks.throughput.time", SimpleNamespace(perf_counter=lambda: now[0]))
    logged, speed = [], Throughput()
    training = SimpleNamespace(log=lambda name, value, batch_size: logged.append((name, value, batch_size)))
    loop = SimpleNamespace(total_batch_idx=0)
    trainer = SimpleNamespace(fit_loop=loop, log_every_n_steps=2, world_size=several, global_step=0)
    speed.on_train_batch_end(trainer, training, None, torch.zeros(9, 1), 0)  # nothing has begun
    for number, seconds in enumerate((0.5, 1.5, 1.0, 0.0)):
        loop.total_batch_idx = number
        speed.on_train_batch_start(trainer, training, None, 0)
        now[0] += seconds
        trainer.global_step = number + 1
        images = torch.zeros(6 if number % 2 else 10, 1)
        speed.on_train_batch_end(trainer, training, None, images if number < 2 else [images, "labels"], 0)
        now[0] += 100.0 * (number == 1)  # to draw pictures
    assert logged == [
        ("train/images_per_second", several * (10 + 6) / 2.0, 6),
        ("train/images_per_second", several * (10 + 6) / 1.0, 6),
    ]

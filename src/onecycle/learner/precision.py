"""What makes a learner's steps fast: chosen before a fit, and said once."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from onecycle import settings
from onecycle.data.batches import BatchLoader
from onecycle.train.device.precision import PrecisionOptions
from onecycle.train.device.precision_trial import choose_precision
from onecycle.train.evaluate import Loader
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer, set_training_mode
from onecycle.train.lr_finder import unchanged

WIDTH = 80
"""Columns of the line that says what was chosen."""


def precision_asked(options: Mapping[str, Any]) -> PrecisionOptions:
    """Return what the options of a learner fix of precision and layout."""
    return PrecisionOptions(options.get("precision", "auto"), options.get("channels_last"), options.get("compile"))


class TrainingSpeed:
    """The choice of precision and layout for one learner."""

    def __init__(self, options: PrecisionOptions) -> None:
        self.options = options  # what the user has fixed
        self._said: set[str] = set()

    def choose(self, trainer: Trainer, loader: Loader, *, n_batches: int) -> str:
        """Set the trainer's precision for a fit, and return it as a clause.

        A head that trains on computed features stays in fp32: its steps are short and its result is at stake.

        Args:
            trainer: in the state in which it will train.
            loader: the training batches.
            n_batches: batches of the whole fit.

        Raises:
            ArgumentError: the device cannot do what is asked for.
        """
        self.options.check(trainer.device)
        if trainer.head is not None:
            trainer.use_precision(None)
            return "fp32 (what trains is fed features)"
        if not isinstance(loader, BatchLoader):
            trainer.use_precision(self.options.unmeasured())
            return "fp32" if trainer.precision is None else trainer.precision.describe()
        pictures = loader  # a name of its own, so that its type is known inside the function below

        def example(n: int) -> tuple[torch.Tensor, torch.Tensor]:
            batch = pictures.replace(bs=n).batch_at(0, 0)
            return batch.x, batch.y

        chosen = choose_precision(
            trainer.model,
            example,
            loss_func=trainer.loss_func,
            device=trainer.device,
            bs=loader.bs,
            n_pictures=n_batches * loader.bs,
            options=self.options,
            repeatable=trainer.deterministic,
            cache_file=settings.cache_folder() / "precision.json",
        )
        chosen = replace(chosen, **trainer.ranks.of_first(asdict(chosen)))  # it was measured, by each of them
        trainer.use_precision(chosen)
        return chosen.describe()

    def warm_up(self, trainer: Trainer, loader: Loader) -> None:
        """Compile the network in a step that leaves no trace, so that no step of the fit takes that time."""
        if not trainer.must_compile or not isinstance(loader, BatchLoader):
            return
        with unchanged(trainer), trainer.running(Recorder(), progress=Progress(), callbacks=()):
            set_training_mode(trainer.network)
            trainer.train_step(loader.batch_at(0, 0), 0)

    def say(self, clauses: Sequence[str]) -> None:
        """Print what was chosen, unless just that has been said."""
        line = f"Speed: {'; '.join(clauses)}"
        text = textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        if text not in self._said:
            print(text)
            self._said.add(text)

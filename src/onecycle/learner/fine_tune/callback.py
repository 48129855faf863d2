"""What ``fine_tune`` tells a callback beside what every fit does: its plan, its stages, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence

from onecycle.learner.fine_tune.best import StageChoice
from onecycle.learner.fine_tune.plan import Plan, Stage
from onecycle.learner.heads.solved import HeadFit
from onecycle.train.loop import Callback


class StageCallback(Callback):
    """A callback that is told of the stages of ``fine_tune``, too, where it is among the learner's callbacks."""

    def on_plan(self, plan: Plan) -> None:
        """The plan is made; nothing has been trained."""

    def on_stage_begin(self, stage: Stage, base_lr: float | None) -> None:
        """Before a stage; with its base learning rate, where that is known already."""

    def on_lr_chosen(self, lr: float) -> None:
        """The base learning rate is found, or the default taken; ``lr_answer`` of the learner says why."""

    def on_head_solved(self, fit: HeadFit) -> None:
        """The head's stage computed its weights; ``fit`` says how."""

    def on_replan(self, rest: Sequence[Stage]) -> None:
        """The stages left are planned anew, from the speed that was measured; none where nothing more fits."""

    def on_stage_end(self, stage: Stage) -> None:
        """After a stage; ``recorder`` of the learner has the history of all so far."""

    def on_stage_judged(self, choice: StageChoice, *, is_best: bool) -> None:
        """A stage was judged, the last of ``choice``; ``is_best`` while the learner has the weights that are kept."""

    def on_stop(self, text: str) -> None:
        """Training ends before its last epoch, and why."""

    def on_kept(self, choice: StageChoice) -> None:
        """After the last stage: the learner has the weights that are kept."""

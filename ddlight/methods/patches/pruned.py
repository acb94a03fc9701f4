"""PrunedSynthesiser: what methods share that make images of those which a score keeps."""

from abc import abstractmethod
from typing import Any

from ddlight.methods.base import Synthesiser
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.run import ScoringRun


class PrunedSynthesiser(Synthesiser):
    """Adds a selector's scoring runs, their time and their cost to a method that takes its images from it."""

    @property
    @abstractmethod
    def pruner(self) -> ScoreSelector:
        """Scores the images; its `sample` says which are kept."""

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """Everything that `ddlight score` trains for this method."""
        return self.pruner.scoring_runs

    def prepare(self) -> None:
        """Check and prepare the method, then make the scoring runs that are missing."""
        super().prepare()
        self.pruner.prepare()

    def estimate_seconds(self) -> float:
        """Time of the scoring runs that are missing."""
        return self.pruner.estimate_seconds()

    def facts(self) -> dict[str, Any]:
        """What the selector and the method add to the manifest."""
        return {**self.pruner.facts(), **super().facts()}

"""What the rest of the package asks of a task, with the answers of a task that needs nothing special."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Int, Key


class Task:
    """What the loader reads for an example, and which network learns the task.

    Every task inherits it. Config section `task` names a task by its key in `sfjax.tasks.TASKS`.
    """

    kind: str = ""  # a key of `sfjax.export.model_card.KINDS`, also for commands; a subclass keeps its parent's
    network: str = "estimator"  # the network that learns it, a key of `sfjax.networks.NETWORKS`
    columns: Mapping[str, float] = {}  # waveforms of an example, each with its share of a batch's length
    labels: Mapping[str, float] = {}  # numbers beside the waveforms, and how many of each there are in a frame
    predicted: Mapping[str, int] = {}  # log-Mels that another model made, and the number of their sources
    phones: tuple[str, ...] = ()  # inventory of phones, which are numbered from 1

    @property
    def parts(self) -> Mapping[str, Any]:
        """The tasks of a model by name; a single task has the name ""."""
        return {"": self}

    def sampling(self, part: Any) -> dict[str, float]:
        """The sampling options of each part; they override config section `sample`."""
        return {}

    def chunk_share(self, part: Any) -> float:
        """The longest recording of a part at once, as a share of config field `infer.seconds`."""
        return 1.0

    @property
    def description(self) -> str:
        """What a model with this task was trained to do, such as "enhance"."""
        return type(self).__name__.lower()


class GenerativeTask(Task):
    """A task of the estimator: sample log-Mels from a condition. The defaults are for one source.

    A subclass has `condition` and `example`. Both see one example: `features` are [frames, mels] arrays by column, and
    labels; `length` is their true number of frames.
    """

    phase: str  # the column that inference is given; output borrows its phase
    count: int = 1  # sources in the target
    aligned_copies: int = 0  # copies of a recording that the network numbers; 0: none
    compared_sources: int = 0  # sources that the training error compares with each other; 0: none
    embedding_size: int = 0  # numbers for each bin that the training error clusters; 0: none

    def condition(self, features: dict[str, Array], length: Int[Array, ""]) -> dict[str, Array]:
        """The network's inputs beside x and t, the same in training and inference."""
        raise NotImplementedError

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Any]:
        """Return one training example: the inputs of `condition`, possibly dropped, and three more arrays.

        These are `target` [frames, mels]; `weight` [frames], 1 on frames whose error counts; and `length`, the frames
        of the target.
        """
        raise NotImplementedError

    def joined(self, mels: Float[Array, "sources frames mels"], length: Int[Array, ""]) -> Float[Array, "_ mels"]:
        """Join the log-Mels of all sources into a target."""
        return mels[0]

    def joined_length(self, length: Int[Array, "*batch"]) -> Int[Array, "*batch"]:
        """The frames of a target whose sources have `length` frames each."""
        return length

    def sources(self, x: Float[Array, "_ mels"], length: Int[Array, ""]) -> Float[Array, "sources frames mels"]:
        """Split a target into its sources: the inverse of `joined`."""
        return x[None]

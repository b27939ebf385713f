"""Train the toy stage in a process of its own: ``python -m tests.integration.toy_training CORPUS OUT [key=value…]``.

Keys: ``kill_after`` (SIGKILL itself after so many steps), ``resume``, ``concatenate`` (ranks whose batches make one), and
settings. Writes the weights it ends with to OUT/weights.safetensors, and says at exit whether its communication is ended.
"""

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch.distributed
from safetensors.torch import save_file
from tests.unit.training.toy import Stage, open_tiny

from spatia.log import configure
from spatia.training import loop
from spatia.training.parallel import processes
from spatia.training.run_folder import RunFolder
from spatia.training.settings import TrainSettings, read_settings


def kill_after(n_steps: int) -> None:
    """Let the run kill itself in the middle of the step after ``n_steps``."""
    count = loop._Run.count

    def counting(run: Any, step: Any) -> str:
        if run.step == n_steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return count(run, step)

    loop._Run.count = counting  # type: ignore[method-assign]


def say_whether_communication_is_ended() -> None:
    if not torch.distributed.is_initialized():
        print("communication is ended", file=sys.stderr)


def main(corpus: Path, out: Path, *, resume: bool, concatenate: int, epochs: int, settings: TrainSettings) -> None:
    configure()
    atexit.register(say_whether_communication_is_ended)
    with processes(settings) as fabric:
        corpora = open_tiny(corpus)
        folder = RunFolder(out, writes=fabric.is_global_zero)
        if fabric.is_global_zero:
            folder.begin(corpora, settings, None, resume=resume)
        fabric.barrier()
        dropout = 0.3 if fabric.world_size * concatenate == 1 else 0.0  # ranks draw dropout for themselves
        stage = Stage(corpora, epochs=epochs, dropout=dropout, concatenate_ranks=concatenate)
        loop.run_stages([stage], folder, settings, fabric, resume=resume)
        if fabric.is_global_zero:
            save_file(
                {name: value.clone() for name, value in stage.module.state_dict().items()}, out / "weights.safetensors"
            )


if __name__ == "__main__":
    values = dict(argument.split("=", 1) for argument in sys.argv[3:])
    if "kill_after" in values:
        kill_after(int(values.pop("kill_after")))
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        resume=values.pop("resume", "") == "true",
        concatenate=int(values.pop("concatenate", "1")),
        epochs=int(values.pop("epochs", "2")),
        settings=read_settings(overrides=[f"{name}={value}" for name, value in values.items()]),
    )

"""`llamafactory-cli train` on our trainer: `python -m t5panel.trainers.llamafactory_cli train`.

Its own program would start its own trainer again in every rank, where nothing is registered and T5 is trained wrongly.
The run is named by the environment: it puts its arguments together with spaces.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from t5panel.trainers.llamafactory_modules import stand_in_for_audio

TRAINER = "-m t5panel.trainers.llamafactory"
"""What torchrun is to start, as words of its command line."""


def main() -> None:
    """Let LLaMA-Factory's launcher start the ranks; ends as it ends."""
    stand_in_for_audio()
    from llamafactory import launcher

    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    os.environ.pop("RDZV_ID", None)  # it would meet on the network
    launcher.__file__ = TRAINER
    launcher.launch()


if __name__ == "__main__":
    main()

"""Whether the LLaMA-Factory environment can do what a run needs: `python -m t5panel.trainers.llamafactory_trial`."""

from __future__ import annotations

import json
import sys

from t5panel.contract.versions import installed_versions
from t5panel.trainers.llamafactory_modules import import_llamafactory


def main() -> int:
    """Import everything; the versions as JSON on the last line."""
    import_llamafactory()
    import deepspeed
    import matplotlib.pyplot
    import sacrebleu

    import t5panel.trainers.job  # noqa: F401

    del deepspeed, matplotlib, sacrebleu
    sys.stdout.write("\n" + json.dumps(installed_versions()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

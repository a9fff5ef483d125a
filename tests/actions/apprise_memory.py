"""What Apprise costs: ``python -m tests.actions.apprise_memory`` prints its MB and seconds."""

import resource
import time
import warnings

from device.config import Action
from device.sinks.actions.kinds import check_action


def main() -> None:
    """Load it as an action does."""
    warnings.simplefilter("ignore")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    check_action(Action(name="x", kind="apprise", on="json://localhost/"))
    took_s = time.perf_counter() - began
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{grown_mb:.0f} MB, {took_s:.2f} s")


if __name__ == "__main__":
    main()

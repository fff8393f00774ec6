"""What ``import gml`` costs beyond scanpy, torch and POT, which it imports.

``python -m benchmarks.bench_import`` prints the median over fresh processes, and the slowest of gml's own modules.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile

REPEATS = 15
LIMIT = 0.2  # seconds

_CODE = """
import time
clocks = [time.perf_counter, time.process_time]
start = [clock() for clock in clocks]
import scanpy, torch, ot
between = [clock() for clock in clocks]
import gml
end = [clock() for clock in clocks]
print(*(b - a for pair in ((start, between), (between, end)) for a, b in zip(*pair)))
"""


def _python(*arguments: str, cache: str) -> subprocess.CompletedProcess[str]:
    # what pip installs is compiled; a checkout is not where bytecode may not be written
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)


def main() -> None:
    """Measure, and say whether it is within the limit."""
    with tempfile.TemporaryDirectory() as cache:
        _python("-c", _CODE, cache=cache)  # compiles the modules
        outputs = [_python("-c", _CODE, cache=cache).stdout for _ in range(REPEATS)]
        report = _python("-X", "importtime", "-c", "import scanpy, torch, ot, gml", cache=cache).stderr
    times = [[float(word) for word in output.split()] for output in outputs]
    others, others_cpu, ours, ours_cpu = map(statistics.median, zip(*times, strict=True))
    print(f"scanpy, torch and POT: {others:.2f} s, {others_cpu:.2f} s of CPU; medians of {REPEATS}")
    print(f"gml after them:        {ours:.3f} s, {ours_cpu:.3f} s of CPU; at most {LIMIT} s wanted")
    lines = re.findall(r"import time: +(\d+) \| +(\d+) \|( +)(\S+)", report)
    after = [index for index, line in enumerate(lines) if line[3] == "ot"][-1]
    slowest = sorted(lines[after + 1 :], key=lambda line: -int(line[0]))[:8]
    for own, _, _, name in slowest:
        print(f"  {int(own) / 1e6:.3f} s  {name}")
    sys.exit(ours > LIMIT)


if __name__ == "__main__":
    main()

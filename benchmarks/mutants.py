"""How many small faults in `gml._ot` and `gml._metric` the fast tests find: mutmut on a random sample of them.

``make mutants`` runs it; ``SAMPLE=0`` takes all of them, for a day. Those that survive are printed, and
``mutmut show NAME`` shows one. The folder `mutants` holds them; delete it after a change of the tests.
"""

import argparse
import json
import random
import subprocess
from collections import Counter
from pathlib import Path

ANY = "gml._ot._ties*"  # few, as the first run makes all mutants and finds which tests reach which of them
# of mutmut; with any other status the tests failed, crashed or went on for ever
STATUS = {0: "survived", 5: "no test", 33: "no test", 35: "survived"} | dict.fromkeys((None, 2, 34, 255), "not run")


def run(names: list[str], n_jobs: int) -> None:
    """Test some mutants, by names or patterns; progress goes to the terminal."""
    subprocess.run(["mutmut", "run", "--max-children", str(n_jobs), *names], check=True)


def results() -> dict[str, int | None]:
    """Exit status of the tests by mutant, `None` if it was not tested."""
    files = sorted(Path("mutants/src").rglob("*.meta"))
    return {name: code for file in files for name, code in json.loads(file.read_text())["exit_code_by_key"].items()}


def main() -> None:
    """Draw, test and count mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=500, help="how many mutants, 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    run([ANY], arguments.jobs)
    names = sorted(results())
    drawn = random.Random(arguments.seed).sample(names, arguments.sample or len(names))
    run(drawn, arguments.jobs)
    found = results()
    status = {name: STATUS.get(found[name], "killed") for name in drawn}
    for name, word in status.items():
        if word != "killed":
            print(f"{word:8} {name}")
    count = Counter(status.values())
    n_judged = len(drawn) - count["not run"]
    share = count["killed"] / n_judged
    error = (share * (1 - share) / n_judged) ** 0.5
    print(f"{dict(count)} of {len(drawn)}, drawn from {len(names)}: {share:.1%} killed, standard error {error:.1%}")


if __name__ == "__main__":
    main()

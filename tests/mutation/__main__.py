"""`make mutation`: mutate each module, run its tests, and report what survives. Exit code 1 below the goal."""

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.mutation import scores, survivors, targets
from tests.mutation.faults import python_faults
from tests.mutation.faults.mutant import Mutant
from tests.mutation.faults.named_faults import named_faults
from tests.mutation.faults.text_faults import alert_mutants, dashboard_mutants, lua_mutants
from tests.mutation.report import Report
from tests.mutation.runs.workshop import ModuleBench, TestsFailError, Workshop, open_workshop


def main() -> int:
    """Run, print each survivor as it is found, and the table at the end."""
    options = _options()
    os.nice(15)
    report = Report(survivors.explained())
    started = time.monotonic()
    modules = [module for module in targets.modules() if options.module in module]
    texts = {path: tests for path, tests in targets.texts().items() if options.module in path}
    named = [fault for fault in named_faults() if options.module in ("", "named")]
    with open_workshop() as workshop:
        for module in modules:
            try:
                _mutate(workshop, module, options, report)
            except TestsFailError as error:
                report.fail(f"{module}: {error}")
        for path, tests in texts.items():
            _mutate_text(workshop, path, tests, options, report)
        if not options.sample and not options.place:
            scores.record(report.counts(), {*targets.modules(), *targets.texts()})
        for fault in named:
            report.add(fault.mutant(workshop.tree), workshop.run_named(fault), fault.name)
            sys.stdout.write(f"tried: {fault.name}\n")
            sys.stdout.flush()
    sys.stdout.write(report.table() + f"\n{time.monotonic() - started:.0f} s\n")
    return 0 if report.good_enough else 1


def _mutate(workshop: Workshop, module: str, options: argparse.Namespace, report: Report) -> None:
    chosen = _chosen(python_faults.mutants(module, (workshop.tree / module).read_text()), options)
    if not chosen:
        return
    with closing(ModuleBench(workshop, module, targets.tests_of(module))) as bench:
        for mutant in chosen:
            report.add(mutant, bench.run(mutant))
    sys.stdout.write(f"{report.line(module)}\n")
    sys.stdout.flush()


def _mutate_text(
    workshop: Workshop, path: str, tests: Sequence[str], options: argparse.Namespace, report: Report
) -> None:
    make = {".lua": lua_mutants, ".yml": alert_mutants, ".json": dashboard_mutants}[Path(path).suffix]
    for mutant in _chosen(make(path, (workshop.tree / path).read_text()), options):
        result = workshop.run(mutant, tests)
        if not result.caught and path.endswith(".yml"):
            result = workshop.run_promtool(mutant)
        report.add(mutant, result)
    sys.stdout.write(f"{report.line(path)}\n")
    sys.stdout.flush()


def _chosen(mutants: list[Mutant], options: argparse.Namespace) -> list[Mutant]:
    return [mutant for mutant in sample(mutants, options.sample, options.seed) if options.place in str(mutant)]


def sample(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """Return so many of the mutants, the same ones for the same seed, in the order of the text. 0 means all."""
    if not size or size >= len(mutants):
        return mutants
    chosen = random.Random(seed).sample(range(len(mutants)), size)
    return [mutants[number] for number in sorted(chosen)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutation")
    parser.add_argument("--module", default="", help="only modules whose path contains this")
    parser.add_argument("--place", default="", help="only mutants whose description contains this")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each module; 0, the default, is all")
    parser.add_argument("--seed", type=int, default=1, help="another seed chooses another sample")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Generate the alert rules, their promtool tests and the PrometheusRule for Kubernetes from `source/`.

python -m alerts.generate                          # rewrite all three
python -m alerts.generate --check                  # exit code 1 if one of them differs from its sources
python -m alerts.generate --scale 60 -o rules.yml  # every window and `for` divided by 60, for drills
python -m alerts.generate --runbooks https://git.example/runbooks --grafana https://grafana.example -o rules.yml
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from alerts.prometheus_rule import prometheus_rule_text
from alerts.rule_tests import rule_tests_text
from alerts.rules import Options, rules_text

ROOT = Path(__file__).parent.parent
GENERATED = {
    "alerts/platform.yml": rules_text,
    "alerts/platform_test.yml": rule_tests_text,
    "deploy/kubernetes/monitoring/prometheusrule.yaml": prometheus_rule_text,
}


def stale(options: Options) -> Iterator[str]:
    """Yield the path of each generated file whose text is not what its sources give."""
    for name, text in GENERATED.items():
        file = ROOT / name
        if not file.exists() or file.read_text(encoding="utf-8") != text(options):
            yield name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    chosen = Options(options.scale, options.job, options.runbooks.rstrip("/"), options.grafana.rstrip("/"))
    if options.check:
        differing = list(stale(chosen))
        for name in differing:
            sys.stderr.write(f"{name} differs from alerts/source: run python -m alerts.generate\n")
        return 1 if differing else 0
    if options.output is not None:
        options.output.write_text(rules_text(chosen), encoding="utf-8")
        return 0
    if chosen != Options():
        sys.stderr.write("The options that change the rules need --output FILE: alerts/platform.yml has the defaults\n")
        return 2
    for name, text in GENERATED.items():
        (ROOT / name).write_text(text(chosen), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m alerts.generate", description="Generate the alert rules.")
    parser.add_argument("--check", action="store_true", help="only compare the generated files with their sources")
    parser.add_argument("-o", "--output", type=Path, help="write the rules to this file")
    parser.add_argument(
        "--scale", type=_scale, default=defaults.scale, help="divide every window and `for` by this number"
    )
    parser.add_argument("--job", default=defaults.job, help="name of the scrape job")
    parser.add_argument("--runbooks", default=defaults.runbooks, help="URL of the folder of the runbooks")
    parser.add_argument("--grafana", default=defaults.grafana, help="URL of Grafana")
    return parser


def _scale(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

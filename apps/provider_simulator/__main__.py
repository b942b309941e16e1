"""`python -m apps.provider_simulator`."""

import argparse
from pathlib import Path

from apps.provider_simulator.main import run


def main() -> None:
    """Read the arguments and run the simulator."""
    parser = argparse.ArgumentParser(
        prog="python -m apps.provider_simulator",
        description="An OpenAI-compatible upstream with scripted faults.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=9100, help="port to listen on; 0 picks a free one")
    parser.add_argument("--ready-file", type=Path, help="file to write the URLs to once it listens")
    arguments = parser.parse_args()
    run(arguments.host, arguments.port, arguments.ready_file)


if __name__ == "__main__":
    main()

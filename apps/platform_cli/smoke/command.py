"""Run the smoke checks and print their results: lines for a terminal, or one JSON object."""

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import typer

from apps.platform_cli.smoke.addresses import checked_url
from apps.platform_cli.smoke.checks import run_checks
from apps.platform_cli.smoke.result import CheckResult
from apps.platform_cli.smoke.session import SmokeOptions
from platform_app.auth.tokens import parse_token


def smoke_key(key: str | None, file: Path | None) -> str:
    """Return the API key: the first line of the file, or without a file the one of `--key` or its variable.

    Raises:
        typer.BadParameter: there is none, or it is not a key; exit code 2.
    """
    if file is not None:
        try:
            key = file.expanduser().read_text().strip().partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise typer.BadParameter(f"--key-file: {file} cannot be read: {reason}") from None
    if not key:
        raise typer.BadParameter("no API key: give --key-file FILE, or set PLATFORM_CHAT_KEY")
    if parse_token(key) is None:
        option = "--key" if file is None else f"--key-file {file}"
        raise typer.BadParameter(f"{option}: not an API key of this platform, or mistyped; expected fbp_…")
    return key


def run_smoke(options: SmokeOptions, *, as_json: bool) -> int:
    """Run every check. Return 0 if none failed, 1 if any failed.

    Raises:
        typer.BadParameter: a URL is not one; exit code 2.
    """
    options = replace(options, base_url=checked_url("--base-url", options.base_url))
    if options.metrics_url is not None:
        options = replace(options, metrics_url=checked_url("--metrics-url", options.metrics_url))
    if options.trace_url is not None and "{trace_id}" not in options.trace_url:
        raise typer.BadParameter("--trace-url: expected a URL with {trace_id} where the trace's id belongs")
    if options.trace_url is not None:
        checked_url("--trace-url", options.trace_url.replace("{trace_id}", "0" * 32))
    options = replace(options, base_url=options.base_url.rstrip("/").removesuffix("/v1"))

    async def main() -> list[CheckResult]:
        results = []
        async for result in run_checks(options):
            masked = _without_key(result, options.key)
            results.append(masked)
            if not as_json:
                typer.echo("\n".join(masked.lines()))
        return results

    results = asyncio.run(main())
    failed = sum(result.status == "failed" for result in results)
    skipped = sum(result.status == "skipped" for result in results)
    if as_json:
        checks = [result.plain() for result in results]
        typer.echo(orjson.dumps({"base_url": options.base_url, "ok": not failed, "checks": checks}).decode())
    else:
        typer.echo(f"{len(results) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def _without_key(result: CheckResult, key: str) -> CheckResult:
    """Mask the key in what a server sent back."""
    return replace(result, detail=result.detail.replace(key, "***"))

"""`gateway simulate DIALECT`: one simulator in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from gateway.simulators.script import ScriptError
from gateway.simulators.simulator import Simulator


def run(
    dialect: str,
    port: int = 0,
    script_path: Path | str | None = None,
    *,
    host: str = "127.0.0.1",
    models: Iterable[str] | None = None,
    window: int | None = None,
    api_key: str | None = None,
    real_pace: bool = True,
) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code: 0, or 2 if it could not begin.

    Prints one line to stdout when it listens, or the reason to stderr. See Simulator for the arguments; `real_pace`
    gives answers the rhythm of the real provider, off means as fast as can be.
    """
    try:
        simulator = Simulator(
            dialect,
            script=Path(script_path) if script_path is not None else None,
            host=host,
            port=port,
            models=models,
            window=window,
            api_key=api_key,
            pace="real" if real_pace else None,
        )
    except ScriptError as wrong:
        print("\n".join(f"script: {mistake}" for mistake in wrong.mistakes), file=sys.stderr)
        return 2
    except (ValueError, OSError) as wrong:
        print(f"simulate: {wrong}", file=sys.stderr)
        return 2
    return asyncio.run(_serve(simulator))


async def _serve(simulator: Simulator) -> int:
    try:
        await simulator.start()
    except OSError as taken:
        print(f"simulate: cannot listen on {simulator.host} port {simulator.port}: {taken.strerror}", file=sys.stderr)
        return 2
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"the {simulator.dialect.name} simulator listens; base URL {simulator.base_url}", flush=True)
    await stop.wait()
    await simulator.stop()
    return 0

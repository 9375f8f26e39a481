"""README's code blocks are run: those of applications against a running demo, those of admins as commands, YAML as a policy."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
READY_S = 60.0


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


@dataclass
class Demo:
    base: str  # http://127.0.0.1:PORT
    key: str


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """`gateway demo` on free ports."""
    command = [sys.executable, "-u", "-m", "gateway", "demo", "--port", "0", "--ops-port", "0", "--admin-port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(READY_S, process.kill)  # a demo that never gets ready ends the reading below
    timer.start()
    try:
        assert process.stdout is not None
        base = key = ""
        for line in process.stdout:
            if found := re.search(r"on (http://127\.0\.0\.1:\d+)/v1", line):
                base = found[1]
            if found := re.search(r"export GATEWAY_KEY=(\S+)", line):
                key = found[1]
            if line.startswith("^C stops it"):
                break
        assert base and key
        timer.cancel()
        draining = threading.Thread(target=process.stdout.read, daemon=True)  # so that it never waits for a reader
        draining.start()
        yield Demo(base, key)
    finally:
        timer.cancel()
        process.terminate()
        process.wait(30)


def run(command: list[str], text: str, demo: Demo, **more: str) -> str:
    text = text.replace("http://127.0.0.1:8080", demo.base)
    done = subprocess.run(
        [*command, text], cwd=ROOT, capture_output=True, text=True, timeout=90, env={**os.environ, "GATEWAY_KEY": demo.key, **more}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.engine
def test_curl_gets_an_answer_of_the_real_model(demo: Demo) -> None:
    (text,) = [text for text in blocks("sh") if "curl" in text]
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    out = run(["sh", "-ec"], text, demo)
    assert '"model":"smollm2-135m"' in out and '"completion_tokens"' in out


@pytest.mark.engine
@pytest.mark.parametrize("text", blocks("python"), ids=lambda text: text.splitlines()[0].strip("# "))
def test_python_blocks_run(text: str, demo: Demo) -> None:
    assert run([sys.executable, "-c"], text, demo).strip()


@pytest.mark.engine
def test_the_node_block_runs(demo: Demo) -> None:
    """Where there is a Node.js: `make test` installs openai-node for it into build/."""
    (text,) = blocks("javascript")
    node = shutil.which("node")
    if node is None or not (ROOT / "build/node/node_modules/openai").is_dir():
        pytest.skip("node or its package openai is not installed")
    script = ROOT / "build/node/readme.mjs"
    script.write_text(text.replace("http://127.0.0.1:8080", demo.base))
    assert run([node], str(script), demo).strip()


def test_admins_commands_run() -> None:
    lines = [line for text in blocks("sh") for line in text.splitlines()]
    commands = [line.partition("#")[0].strip() for line in lines if line.startswith("gateway ")]
    assert len(commands) >= 3
    for command in commands:
        done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=60)
        wanted = 1 if "explain" in command else 0  # the example is a refusal
        assert (done.returncode, done.stderr) == (wanted, ""), done.stdout + done.stderr
        assert done.stdout


def test_the_shown_refusal_is_what_explain_says() -> None:
    (shown,) = [text for text in blocks("text") if text.startswith("no route is allowed")]
    (command,) = [line for text in blocks("sh") for line in text.splitlines() if line.startswith("gateway policy explain")]
    out = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True).stdout
    told = " ".join(out.split())
    for part in " ".join(shown.split()).split("…"):
        assert part.strip(" .;") in told


def test_the_shown_rules_are_shipped() -> None:
    (text,) = (text for text in blocks("yaml") if text.startswith("rules:"))
    shipped = " ".join((ROOT / "policies/residency.yaml").read_text().split())
    rules = re.split(r"\n  - ", text.removeprefix("rules:"))[1:]
    assert len(rules) == 2
    for rule in rules:
        assert " ".join(rule.split()) in shipped


def test_the_shown_rates_are_shipped() -> None:
    (text,) = (text for text in blocks("yaml") if text.startswith("tenants:"))
    shipped = (ROOT / "policies/tenants.yaml").read_text()
    shown = [line.partition("#")[0].strip() for line in text.splitlines() if "rates:" in line]
    assert len(shown) == 2
    assert all(line in shipped for line in shown)


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"`?make ([a-z-]+)", README):
        assert name in targets


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target

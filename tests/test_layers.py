"""The direction of imports, and what the data path must be free of."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN = ("fastapi", "starlette", "pydantic", "ruamel", "prometheus_client", "pycountry", "structlog", "z3", "gateway.config",
    "gateway.control")


def test_imports_go_one_way() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_a_worker_imports_the_data_path_and_nothing_else() -> None:
    program = "import sys, json, gateway.worker; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert "gateway.wire.protocol" in modules
    found = [name for name in modules if any(name == word or name.startswith(f"{word}.") for word in FORBIDDEN)]
    assert found == []

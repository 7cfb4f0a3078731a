"""What users' checkers see of inloop: they know its types, and refuse mistakes."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ["api.py", "mistakes.py"]


def check(*command: str | Path) -> None:
    """Run a checker; everything it says is an error of ours."""
    module = str(command[0])
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}: uv sync --group lint")
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("file", FILES)
def test_mypy_knows_the_types_and_refuses_mistakes(file: str, tmp_path: Path) -> None:
    """mypy --strict accepts users' code, and refuses exactly the lines marked as mistakes."""
    check("mypy", "--strict", "--config-file=", "--cache-dir", tmp_path, file)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("file", FILES)
def test_pyright_knows_the_types_and_refuses_mistakes(file: str) -> None:
    """pyright, strict, accepts users' code, and refuses exactly the lines marked as mistakes."""
    check("pyright", "--pythonpath", sys.executable, file)


@pytest.mark.parametrize("file", FILES)
def test_the_files_ask_for_strictness(file: str) -> None:
    """Both files say themselves how strictly they are read."""
    assert "\n# pyright: strict" in (HERE / file).read_text()


def test_every_mistake_says_why_it_is_one() -> None:
    """A marked line gives its reason, so that a reader learns from it."""
    lines = (HERE / "mistakes.py").read_text().splitlines()
    marked = [line for line in lines if "# type: ignore" in line]
    assert len(marked) > 40
    assert not [line for line in marked if "# refused: " not in line]

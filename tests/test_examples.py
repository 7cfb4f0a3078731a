"""Every file in `examples/` is run by some test, and every Python block of the README is known."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each example, and the test that runs it.
RUN_BY = {
    "imports.py": "examples/test_import.py",  # under uvicorn, killed and started again
    "make_csv.py": "examples/test_import.py",  # makes the file that is imported
    "survives.py": "examples/test_readme.py",  # the program that the README shows with its output
}


def test_every_example_is_run_by_a_test() -> None:
    """An example that nobody runs is wrong before long: a new one gets a test and a line."""
    found = {path.name for path in (ROOT / "examples").glob("*.py")} - {"__init__.py"}
    assert found == RUN_BY.keys()


@pytest.mark.parametrize("name", RUN_BY)
def test_the_test_does_run_it(name: str) -> None:
    """The test that the table names, or the helper beside it, mentions the example."""
    test = ROOT / "tests" / RUN_BY[name]
    texts = [test.read_text(), *(path.read_text() for path in test.parent.glob("served.py"))]
    assert any(re.search(rf"\b{name.removesuffix('.py')}\b", text) for text in texts)


def test_every_python_block_of_the_readme_is_one_that_is_run() -> None:
    """`examples/test_readme.py` runs the first, the program, the import's heart and the recipes."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    recipes = readme[readme.index("## Recipes") : readme.index("## Settings")]
    run = [blocks[0]]
    run += [text for text in blocks if "asyncio.run(main())" in text or "executemany" in text]
    run += [text for text in blocks if text in recipes]
    assert set(blocks) == set(run)

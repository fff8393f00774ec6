"""The shape of the source: where a thing lies, how long it is, and through which door it is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gml

SOURCE = Path(gml.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
PUBLIC = {"datasets", "get", "pl", "pp", "tl"}
MOST_LINES, MANY_LINES, MOST_LONG = 60, 40, 3
MOST_ARGUMENTS = 8  # of private functions; tests/test_api.py counts those of public ones


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def n_lines(path: Path, node: ast.FunctionDef) -> int:
    """Lines of code, without the docstring, comments and blank lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    numbers = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    if ast.get_docstring(node) is not None:
        numbers -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    code = (lines[number - 1].strip() for number in numbers)
    return sum(bool(line) and not line.startswith("#") for line in code)


def test_few_files_at_the_root() -> None:
    names = {path.name for path in SOURCE.iterdir() if path.is_file()}
    assert names == {"__init__.py", "methods.py", "py.typed", "solvers.py"}


def test_functions_are_short() -> None:
    sizes = {f"{path.relative_to(SOURCE)}:{node.name}": n_lines(path, node) for path, node in functions()}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}
    long = {name: size for name, size in sizes.items() if size > MANY_LINES}
    assert len(long) <= MOST_LONG, long


def test_private_functions_take_few_arguments() -> None:
    crowded = {}
    for path, node in functions():
        is_public = path.parent.name in PUBLIC and path.stem == f"_{node.name}"
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        taken = [argument.arg for argument in arguments if argument.arg not in {"self", "cls"}]
        if len(taken) > MOST_ARGUMENTS and not is_public:
            crowded[f"{path.relative_to(SOURCE)}:{node.name}"] = taken
    assert not crowded


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_folders_are_imported_by_their_names(path: Path) -> None:
    """What another folder needs is exported by the `__init__` of its folder."""
    folder = path.relative_to(SOURCE).parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("gml._"):
            parts = node.module.split(".")
            assert len(parts) == 2 or parts[1] == folder, ast.unparse(node)


def test_tools_hold_nothing_else() -> None:
    """Every file of `tl` is a public function; what it is made of lies below."""
    names = {path.stem.removeprefix("_") for path in (SOURCE / "tl").glob("_*.py")} - {"_init__"}
    assert names == set(gml.tl.__all__)

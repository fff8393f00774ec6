"""What the project says about itself must agree with what it is."""

import ast
import inspect
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest
import yaml

import gml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
NAMESPACES = ["datasets", "get", "methods", "pl", "pp", "solvers", "tl"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def requirements() -> list[str]:
    extras, groups = PROJECT["optional-dependencies"].values(), PYPROJECT["dependency-groups"].values()
    items = [item for group in (PROJECT["dependencies"], *extras, *groups) for item in group]
    return sorted({item for item in items if isinstance(item, str) and not item.startswith("scgml")})


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_a_reason(requirement: str) -> None:
    name, _, bound = requirement.partition(">=")
    row = re.compile(rf"^\| `{re.escape(name)}` \| {re.escape(bound or 'any')} \| .*\w", re.MULTILINE)
    assert row.search((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def test_every_public_name_is_documented() -> None:
    public = {f"{space}.{name}" for space in NAMESPACES for name in getattr(gml, space).__all__}
    public |= {name for name in gml.__all__ if isinstance(getattr(gml, name), type)}
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   ([\w.]+)$", page, re.MULTILINE))
    assert listed == public


@each_page
def test_names_on_a_page_exist(page: Path) -> None:
    for name in set(re.findall(r"\bgml\.(\w+(?:\.\w+)*)", page.read_text(encoding="utf-8"))):
        assert attrgetter(name)(gml) is not None, name


def calls(text: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of gml in the Python blocks of a page, and in code inside of its lines."""
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in blocks + re.findall(r"`(gml\.[^`]+\))`", prose):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and re.fullmatch(r"gml(\.\w+)+", name := ast.unparse(node.func)):
                yield name.removeprefix("gml."), node


@each_page
def test_calls_on_a_page_have_arguments_that_exist(page: Path) -> None:
    for name, call in calls(page.read_text(encoding="utf-8")):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}  # without **keys
        inspect.signature(attrgetter(name)(gml)).bind_partial(*call.args, **keywords)


def test_calls_are_found() -> None:
    text = "Call `gml.pl.loss(adata)` or\n\n```python\ngml.tl.tune(adata, splits=3)\n```\n"
    assert [name for name, _ in calls(text)] == ["tl.tune", "pl.loss"]


@each_page
def test_files_on_a_page_exist(page: Path) -> None:
    """Links of the pages that Sphinx does not build, scripts, benchmarks and targets of make."""
    text = page.read_text(encoding="utf-8")
    folders = "benchmarks|docs|src|tests|tutorials"
    files = {ROOT / name for name in re.findall(rf"`(?:python )?((?:{folders})/[\w./-]+\.\w+)[ `]", text)}
    files |= {ROOT / f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks\.\w+)", text)}
    if page.parent == ROOT:
        files |= {ROOT / name for name in re.findall(r"\]\(([\w./]+)\)", text)}
    assert not {str(file.relative_to(ROOT)) for file in files if not file.exists()}
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.MULTILINE)) <= set(targets)


def test_every_module_has_its_place() -> None:
    """The table of the structure names what is in src/gml, in an order in which imports go up."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page[page.index("| place in `src/gml` |") : page.index("- A folder exports")]
    rows = [re.findall(r"`(\w+)(?:\.py|/)?`", row.split("|")[1]) for row in table.splitlines()[2:] if row]
    found = {
        path.stem for path in (ROOT / "src" / "gml").iterdir() if path.name[:2] != "__" and path.suffix in {"", ".py"}
    }
    assert sorted(name for row in rows for name in row) == sorted(found)
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    layer = {name: number for number, names in enumerate(layers) for name in names.replace("gml.", "").split(" | ")}
    numbers = [layer[name] for row in rows for name in row]
    assert numbers == sorted(numbers, reverse=True)


def test_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [PROJECT["version"]]


def test_badges_are_true() -> None:
    badges = re.findall(r"img\.shields\.io/badge/([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    licence = PROJECT["license"].replace("-", "--")
    assert badges == [f"python-{'_%7C_'.join(pythons)}-blue", f"licence-{licence}-blue"]


def test_workflows_take_every_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8"))["jobs"]
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert jobs["test"]["strategy"]["matrix"]["python"] == pythons
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert [step["with"]["python-version"] for step in jobs["oldest"]["steps"] if "setup-python" in str(step)] == [
        lowest
    ]


def test_dependencies_are_audited_every_week() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8"))
    assert workflow[True]["schedule"]  # "on" is read as a truth value
    assert workflow["jobs"]["audit"]["if"] == "github.event_name == 'schedule'"
    assert "make PYTHON=python audit" in [step.get("run") for step in workflow["jobs"]["audit"]["steps"]]


def test_entry_of_the_ecosystem() -> None:
    """Fields that scverse/ecosystem-packages knows, in agreement with the project; addresses must exist."""
    entry = yaml.safe_load((ROOT / ".github" / "ecosystem" / "meta.yaml").read_text(encoding="utf-8"))
    asked = {"name", "description", "install", "primary_category", "tags", "license", "language", "category"}
    addresses = {"project_home", "documentation_home", "tutorials_home", "contact"}
    assert asked <= set(entry) <= asked | addresses | {"publications", "test_command"}
    assert entry["name"] == gml.__name__
    assert entry["install"] == {"pypi": PROJECT["name"]}
    assert entry["description"].startswith(f"{PROJECT['description']}.\n")
    assert entry["license"] == PROJECT["license"]
    assert set(entry["tags"]) == set(PROJECT["keywords"]) - {"scverse"}
    assert entry["publications"] == [
        f"10.48550/arXiv.{number}"
        for number in re.findall(r"value: arXiv:(\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    ]
    urls = set(PROJECT.get("urls", {}).values())
    assert {entry[name] for name in addresses & set(entry) - {"contact"}} <= urls


def test_no_path_of_one_machine() -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git")
    listing = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("needs a git repository")
    machine = re.compile(rb"(?<![\w.])/(?:work|root)/")
    files = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    texts = {file: file.read_bytes() for file in files if file.is_file()}
    found = [str(file.relative_to(ROOT)) for file, text in texts.items() if b"\0" not in text and machine.search(text)]
    assert not found

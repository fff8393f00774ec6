"""What the project says about itself must agree with what it is."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import gml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
NAMESPACES = ["datasets", "get", "methods", "pl", "pp", "solvers", "tl"]


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
    public = {f"{space}.{name}" for space in NAMESPACES for name in getattr(gml, space).__all__} | {"GroundMetric"}
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   ([\w.]+)$", page, re.MULTILINE))
    assert listed == public


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

"""What is published: the wheel holds the package and nothing else, and the README's first lines run from it."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

pytest.importorskip("hatchling", reason="needs the group `test`")


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command, which must not fail; its errors are shown if it does."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"MPLBACKEND": "agg"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(target: str, source: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder, cwd=source)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution as `python -m build` does."""
    source = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    (unpacked,) = source.iterdir()
    return built("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    folder = f"scgml-{PROJECT['version']}.dist-info"
    source = ROOT / "src"
    files = [path for path in (source / "gml").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    ours = {path.relative_to(source).as_posix() for path in files}
    assert "gml/py.typed" in ours
    assert names == ours | {f"{folder}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    assert wheel.name.endswith("-py3-none-any.whl")


def test_what_the_wheel_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata, _, description = archive.read(name).decode().partition("\n\n")
    for line in ("Name: scgml", "License-Expression: BSD-3-Clause", "Description-Content-Type: text/markdown"):
        assert line in metadata.splitlines()
    required = re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata, re.MULTILINE)
    assert sorted(required) == sorted(PROJECT["dependencies"])
    assert description.startswith("# gml")


def test_source_distribution_holds_the_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CITATION.cff", "pyproject.toml", "tests/conftest.py", "docs/index.md"} <= names
    assert not [name for name in names if re.search(r"__pycache__|\.(h5ad|zarr|ipynb_checkpoints)", name)]


def quickstart() -> str:
    """The README from the import to the heatmap of patients, on fewer patients."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[:2])
    assert "gml.pl.patient_heatmap(patients)" in code
    small = code.replace("n_patients=40", "n_patients=8, n_cells=30")
    assert small != code
    return small


@pytest.mark.slow
def test_quickstart_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """In an environment that holds the wheel, and the dependencies of this one, but not its gml."""
    run(sys.executable, "-m", "venv", "--without-pip", "empty", cwd=tmp_path)
    (python,) = [*tmp_path.glob("empty/bin/python"), *tmp_path.glob("empty/Scripts/python.exe")]
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-I", "-c", where, cwd=tmp_path).strip())
    shared = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (packages / "dependencies.pth").write_text("\n".join(shared), encoding="utf-8")

    script = tmp_path / "quickstart.py"
    script.write_text(f"{quickstart()}\nprint(gml.__file__, gml.__version__, len(patients))\n", encoding="utf-8")
    place, version, n_patients = run(python, "-I", script, cwd=tmp_path).split()[-3:]
    assert Path(place).is_relative_to(packages)
    assert (version, n_patients) == (PROJECT["version"], "8")

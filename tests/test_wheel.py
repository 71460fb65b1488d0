"""What pip installs can train: the wheel, built from the sdist, in an environment outside the checkout."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CARRIED = (
    "ccpo_jax configs docs experiments tests CHANGELOG.md CITATION.cff CONTRIBUTING.md LICENSE MANIFEST.in README.md "
    "conftest.py mkdocs.yml pyproject.toml requirements.txt requirements-test.txt run.py"
).split()


def run(*command: str | pathlib.Path, cwd: pathlib.Path) -> str:
    """Runs a command that sees nothing of the checkout; its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> pathlib.Path:
    """A folder with the sdist of a copy of the checkout, and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("packages")
    copy = folder / "source"
    copy.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in CARRIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=skip)
        else:
            shutil.copy(ROOT / name, copy / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def environment(packages, tmp_path_factory) -> pathlib.Path:
    """The bin folder of a fresh environment: the wheel, and this environment's packages for what it depends on."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=packages)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    (wheel,) = packages.glob("*.whl")
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=packages)
    # A path in a .pth file comes after the environment's own packages, and .pth files over there are not read:
    # an editable install of the checkout stays invisible.
    ours = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (pathlib.Path(paths["purelib"]) / "dependencies.pth").write_text("\n".join(sorted(ours)))
    return folder / "bin"


def test_the_wheel_trains(environment, tmp_path):
    where = run(
        environment / "python", "-c", "import ccpo_jax; print(ccpo_jax.__file__)", cwd=tmp_path
    )
    assert environment.parent in pathlib.Path(where.strip()).parents
    sizes = {"steps": 2, "batch_size": 4, "group_size": 4, "data.heldout": 4, "eval.batch_size": 4}
    small = [f"--config.{name}={size}" for name, size in sizes.items()]
    run(environment / "ccpo-jax", "--config=voting:tiny", "--workdir=run", *small, cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[1]["decoded_tokens"] > 0
    run(environment / "ccpo-jax", "report", "run", cwd=tmp_path)
    assert (tmp_path / "run/report.html").stat().st_size > 10_000


def test_your_own_problem_from_an_empty_folder(environment, tmp_path):
    """docs/your-own-problem.md, followed to the letter."""
    page = (ROOT / "docs/your-own-problem.md").read_text(encoding="utf-8")
    files = re.findall(r'```(?:py|toml) title="([^"]+)"\n(.*?)```', page, flags=re.DOTALL)
    for name, content in files:
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert len(files) == 3

    output = ""
    for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line)
            if program != "pip":
                output += run(environment / program, *words, cwd=tmp_path)

    metrics = (tmp_path / "runs/mine/metrics.jsonl").read_text().splitlines()
    trained = json.loads(metrics[-1])
    assert trained["step"] == 12
    # Near misses count: there are more mean scores than full ones.
    assert 0 < trained["eval/solved"] < trained["eval/team_accuracy"] < 1
    inputs = {path.name for path in (tmp_path / "runs/mine/inputs").rglob("*")}
    assert {"closeness.py", "roles.toml"} <= inputs
    weights = tmp_path / "runs/mine/export/agent_0/model.safetensors"
    assert b'"BF16"' in weights.read_bytes()[:10_000]
    assert "0.50" in output


def test_the_wheel_is_typed_and_licensed(packages, tmp_path):
    (wheel,) = packages.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path, "zip")
    assert (tmp_path / "ccpo_jax/py.typed").is_file()
    (info,) = tmp_path.glob("*.dist-info")
    assert (info / "licenses/LICENSE").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"ccpo_jax", info.name}


def test_the_sdist_holds_what_a_contributor_needs(packages):
    (sdist,) = packages.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in CARRIED:
        assert name in names, name
    for name in (
        "tests/conftest.py",
        "docs/figures/teams.svg",
        "experiments/study/results/2026-11/hunt.md",
    ):
        assert name in names, name


def test_requirements_are_the_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def listed(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line for line in lines if re.match(r"\w", line)}

    assert listed("requirements.txt") == set(project["dependencies"]) | set(extras["train"])
    assert listed("requirements-test.txt") == set(extras["test"])

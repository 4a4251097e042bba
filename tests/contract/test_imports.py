"""Imports run one way, read from the source with ``ast``; each rule is shown to catch a planted edge."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("kdstats", "runners", "analyses", "reports")
FOUNDATION = {
    "_version",
    "errors",
    "json_text",
    "lazy",
    "small_file",
    "tables",
    "console",
    "disk",
    "allocator",
    "provenance",
    "labels",
    "offline",
    "__init__",
}
# Room → the rooms it may import; the foundation is open to all, cli may import everything.
MAY = {
    "estimators": {"records"},
    "published": set(),
    "records": set(),
    "recorded": {"records", "estimators"},
    "association": {"estimators", "records", "published"},
    "figures": {"association", "estimators", "records", "published"},
    "pages": {"figures", "association", "estimators", "records", "published"},
    "draws": set(),
    "data": {"draws"},
    "models": set(),
    "schemes": {"draws"},
    "teacher": {"draws", "schemes", "models", "data", "estimators", "records"},
}
DRAWING, TORCH = {"matplotlib", "seaborn", "jinja2", "plotly"}, {"torch", "torchvision"}
# Room → outside packages that it must never import, not even inside a function.
NEVER = {
    "estimators": DRAWING | TORCH | {"pandas", "statsmodels", "sklearn", "pyarrow"},
    "association": DRAWING | TORCH,
    "recorded": DRAWING | TORCH,
    "published": DRAWING | TORCH,
    "figures": TORCH | {"jinja2"},
    "pages": TORCH,
    "draws": DRAWING,
    "schemes": DRAWING,
    "models": DRAWING,
    "data": DRAWING,
    "teacher": DRAWING,
    "records": DRAWING,
    **dict.fromkeys(FOUNDATION, DRAWING | TORCH),
}
# Rooms that must be importable without these; inside a function they are welcome: questions to the networks load torch
# when they are asked, and a page never does.
NOT_ON_IMPORT = {"records": TORCH, "analyses": TORCH, "reports": TORCH}
# Rooms within analyses → those they may import; what lies at its root are questions, which may import all of them.
INNER = {
    "words": set(),
    "study": {"words"},
    "figures": {"words", "study"},
    "inference": {"words", "study", "figures"},
}


@dataclass(frozen=True)
class Edge:
    """One import: the room that imports, what it imports, where, and whether only a function or a type needs it.

    ``module`` is the importing one; ``inner`` the room within ``analyses`` that it is in; ``taken`` what is taken of the
    target by name.
    """

    room: str
    module: str
    inner: str
    target: str
    where: str
    deferred: bool
    taken: tuple[str, ...] = ()


def room_of(parts: tuple[str, ...]) -> str:
    """``kdstats/data/cache.py`` → ``data``; ``runners/…`` → ``runners``."""
    return parts[1].removesuffix(".py") if parts[0] == "kdstats" else parts[0]


def modules_of(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        stem = ".".join(part for part in (base, node.module or "") if part)
        # `from kdstats import data` imports a room, not a name.
        return [f"{stem}.{alias.name}" for alias in node.names] if stem in TOPS or not node.module else [stem]
    return []


def edges(root: Path = ROOT) -> Iterator[Edge]:
    for top in TOPS:
        for file in sorted((root / top).rglob("*.py")):
            parts = file.relative_to(root).parts
            name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            inner = parts[1].removesuffix(".py") if top == "analyses" and len(parts) > 1 else ""
            tree = ast.parse(file.read_text(encoding="utf-8"))
            deferred = {
                inner
                for outer in ast.walk(tree)
                if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
                for inner in ast.walk(outer)
            }
            for node in ast.walk(tree):
                taken = tuple(alias.name for alias in node.names) if isinstance(node, ast.ImportFrom) else ()
                for module in modules_of(node, parts[:-1]):
                    where = f"{'/'.join(parts)}:{node.lineno} imports {module}"
                    yield Edge(room_of(parts), name, inner, module, where, node in deferred, taken)


def violations(found: list[Edge]) -> list[str]:
    wrong = []
    for edge in found:
        target = tuple(edge.target.split("."))
        outside = target[0] not in TOPS
        if edge.room in TOPS:
            allowed = {
                "runners": {"runners", "kdstats"},
                "analyses": {"analyses", "kdstats"},
                "reports": {"reports", "analyses", "kdstats"},
            }
            bad = not outside and target[0] not in allowed[edge.room]
            bad |= outside and not edge.deferred and target[0] in NOT_ON_IMPORT.get(edge.room, set())
            inner = INNER.get(edge.inner)
            if inner is not None and target[0] == "analyses" and len(target) > 1:
                bad |= target[1] not in {*inner, edge.inner}
        elif outside:
            bad = target[0] in NEVER.get(edge.room, set())
            bad |= not edge.deferred and target[0] in NOT_ON_IMPORT.get(edge.room, set())
        elif target[0] != "kdstats":
            bad = True
        else:
            room = target[1] if len(target) > 1 else "__init__"
            known = room in FOUNDATION or room in MAY or room == "cli"
            if (
                edge.room == "cli" or not known
            ):  # a public name taken from the package itself is resolved below
                bad = not known and room not in public()
            else:
                bad = room != edge.room and room not in FOUNDATION and room not in MAY.get(edge.room, set())
        if bad:
            wrong.append(edge.where)
    return wrong


def public() -> set[str]:
    import kdstats

    return set(kdstats.__all__)


def cycles(found: list[Edge]) -> list[tuple[str, ...]]:
    graph: dict[str, set[str]] = {}
    for edge in found:
        parts = edge.target.split(".")
        target = parts[0] if parts[0] != "kdstats" else (parts[1] if len(parts) > 1 else "__init__")
        if parts[0] in TOPS and target != edge.room:
            graph.setdefault(edge.room, set()).add(target)
    loops: list[tuple[str, ...]] = []

    def visit(room: str, path: tuple[str, ...]) -> None:
        if room in path:
            loops.append((*path[path.index(room) :], room))
        elif len(path) < 30:
            for following in sorted(graph.get(room, ())):
                visit(following, (*path, room))

    for start in sorted(graph):
        visit(start, ())
    return loops


def module_cycles(found: list[Edge], *, within: str | None = None) -> list[list[str]]:
    """Modules that import each other when they are loaded, whatever rooms they are in.

    With ``within`` only those of one room, and by imports that wait for a function or serve a type alone too.
    """
    if within is not None:
        found = [edge for edge in found if f"{edge.module}.".startswith(f"{within}.")]
    names = {edge.module for edge in found} | {edge.target for edge in found}
    graph = {name: set[str]() for name in names}
    for edge in found:
        if edge.deferred and within is None:
            continue
        # `from package import name` may mean a module or something in the package.
        for target in [f"{edge.target}.{name}" for name in edge.taken] or [edge.target]:
            meant = target if target in names else target.rpartition(".")[0]
            if meant in names and meant != edge.module:
                graph[edge.module].add(meant)
    rest = dict(graph)
    while leaves := [name for name, targets in rest.items() if not targets & rest.keys()]:
        for name in leaves:
            del rest[name]
    return [[name, *sorted(targets & rest.keys())] for name, targets in sorted(rest.items())]


def test_imports_run_one_way():
    found = list(edges())
    assert len(found) > 300
    assert violations(found) == []


def test_no_cycles_between_rooms():
    assert cycles(list(edges())) == []


def test_no_cycles_between_modules():
    assert module_cycles(list(edges())) == []


def test_a_command_reads_one_way_to_the_last_type():
    assert module_cycles(list(edges()), within="kdstats.cli") == []


def test_every_room_is_known():
    rooms = {e.room for e in edges()}
    unknown = rooms - set(MAY) - FOUNDATION - set(TOPS) - {"cli"}
    assert not unknown, f"say in MAY what {sorted(unknown)} may import"


PLANTED = [
    ("kdstats/estimators/x.py", "import torch"),
    ("kdstats/estimators/x.py", "def f():\n    from torch import nn"),
    ("kdstats/estimators/x.py", "import matplotlib.pyplot as plt"),
    ("kdstats/estimators/x.py", "from kdstats.association import correlate"),
    ("kdstats/estimators/x.py", "from kdstats import schemes"),
    ("kdstats/estimators/x.py", "from ..teacher import probe"),
    ("kdstats/association/x.py", "import jinja2"),
    ("kdstats/association/x.py", "def f():\n    import seaborn"),
    ("kdstats/association/x.py", "from kdstats.figures import style"),
    ("kdstats/association/x.py", "import torch.nn"),
    ("kdstats/figures/x.py", "from kdstats.teacher import evaluate"),
    ("kdstats/figures/x.py", "from kdstats.pages import style"),
    ("kdstats/records/x.py", "import torch"),
    ("kdstats/records/x.py", "from kdstats.estimators import tstddev"),
    ("kdstats/recorded/x.py", "import torch"),
    ("kdstats/recorded/x.py", "from kdstats.figures import style"),
    ("kdstats/estimators/x.py", "from kdstats.recorded import steps"),
    ("kdstats/schemes/x.py", "from kdstats.teacher.probe import Probe"),
    ("kdstats/schemes/x.py", "from kdstats import data"),
    ("kdstats/data/x.py", "import kdstats.models"),
    ("kdstats/teacher/x.py", "from kdstats.figures import style"),
    ("kdstats/teacher/x.py", "from kdstats.cli import main"),
    ("kdstats/teacher/x.py", "def f():\n    import runners.student"),
    ("kdstats/cli/x.py", "from runners import study"),
    ("kdstats/cli/x.py", "def f():\n    from reports.build import main"),
    ("kdstats/cli/x.py", "from kdstats import nonsense"),
    ("kdstats/errors.py", "from kdstats.data import load"),
    ("kdstats/errors.py", "import torch"),
    ("kdstats/x.py", "import analyses"),
    ("runners/x.py", "from reports import build"),
    ("runners/x.py", "import analyses.pairs"),
    ("analyses/x.py", "from runners.student import train"),
    ("analyses/x.py", "from reports import build"),
    ("reports/x.py", "import runners"),
    ("reports/x.py", "import torch"),
    ("analyses/study/x.py", "import torch.nn"),
    ("analyses/study/x.py", "from analyses.inference import spread"),
    ("analyses/study/x.py", "from analyses import ranking"),
    ("analyses/figures/x.py", "from analyses.inference.seeds import Seeds"),
    ("analyses/inference/x.py", "def f():\n    from analyses.ranking import run"),
    ("analyses/words.py", "from analyses.study import Study"),
]


@pytest.mark.parametrize(("file", "code"), PLANTED)
def test_a_planted_edge_is_caught(tmp_path, file, code):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    assert len(violations(list(edges(tmp_path)))) >= 1


FINE = [
    (
        "kdstats/estimators/x.py",
        "import numpy as np\nfrom kdstats.errors import UsageError\nfrom kdstats.records.schema import POOLS",
    ),
    ("kdstats/records/x.py", "def f():\n    import torch"),
    ("kdstats/cli/x.py", "def f():\n    import torch\n    from kdstats import evaluate_da, teacher"),
    (
        "kdstats/teacher/x.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\nfrom kdstats import data",
    ),
    ("reports/x.py", "from analyses import pairs\nfrom kdstats.figures import style"),
    ("analyses/x.py", "from analyses.inference import spread\ndef f():\n    import torch"),
    ("analyses/inference/x.py", "from analyses.study import Study\nfrom analyses.figures.levels import draw"),
]


@pytest.mark.parametrize(("file", "code"), FINE)
def test_right_edges_pass(tmp_path, file, code):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    assert violations(list(edges(tmp_path))) == []


def test_a_planted_cycle_is_caught(tmp_path):
    for room, code in (
        ("data", "from kdstats.models import build"),
        ("models", "from kdstats.schemes import get"),
        ("schemes", "def f():\n    import kdstats.data"),
    ):
        (tmp_path / "kdstats" / room).mkdir(parents=True)
        (tmp_path / "kdstats" / room / "x.py").write_text(code)
    assert ("data", "models", "schemes", "data") in cycles(list(edges(tmp_path)))


def test_a_planted_cycle_of_modules_is_caught(tmp_path):
    folder = tmp_path / "analyses" / "study"
    folder.mkdir(parents=True)
    (folder / "one.py").write_text("from analyses.study.two import x")
    (folder / "two.py").write_text("from analyses.study import three")
    (folder / "three.py").write_text("def f():\n    pass\nfrom analyses.study.one import y")
    assert [loop[0] for loop in module_cycles(list(edges(tmp_path)))] == [
        f"analyses.study.{name}" for name in ("one", "three", "two")
    ]
    (folder / "three.py").write_text("def f():\n    from analyses.study.one import y")
    assert module_cycles(list(edges(tmp_path))) == []
    assert len(module_cycles(list(edges(tmp_path)), within="analyses.study")) == 3
    assert module_cycles(list(edges(tmp_path)), within="analyses.stud") == []


_BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "matplotlib", "seaborn", "jinja2"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_statistics_work_where_there_is_no_torch():
    code = _BLOCKED + (
        "import kdstats, numpy as np\n"
        "for name in kdstats.__all__:\n"
        "    if name != 'evaluate_da': getattr(kdstats, name)\n"
        "p = np.random.default_rng(0).dirichlet(np.ones(5), size=40)\n"
        "print(kdstats.t_stddev(p).value > 0, kdstats.ce_covariance(p).design_effect.value > 0)\n"
        "s = kdstats.TStddev(); s.update(p); c = kdstats.Comoments(); c.update(p)\n"
        "print(len(kdstats.load_published('wang2022').points) == 90)\n"
    )
    found = python(code)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["True", "True", "True"]
    # And the block is a block: the one name that needs torch fails.
    assert "No module named 'torch'" in python(_BLOCKED + "import kdstats; kdstats.evaluate_da").stderr


def test_importing_kdstats_loads_next_to_nothing():
    found = python(
        "import sys, kdstats\n"
        "heavy = {'torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'pyarrow', 'typer', 'rich', 'statsmodels'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert found.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    found = python(
        "import sys\nsys.argv = ['kdstats', '--help']\nfrom kdstats.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'scipy', 'pandas', 'matplotlib', 'pyarrow', 'statsmodels'} & set(sys.modules)))"
    )
    assert found.stdout.splitlines()[-1] == "[]", found.stderr
    assert "correlate" in found.stdout


def test_public_names():
    import kdstats

    assert set(kdstats.__all__) <= set(dir(kdstats))
    for name in kdstats.__all__:
        assert getattr(kdstats, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = kdstats.nonsense


@pytest.mark.parametrize("package", ["data", "models", "schemes"])
def test_names_of_a_room(package):
    room = importlib.import_module(f"kdstats.{package}")
    assert dir(room) == sorted(room.__all__)
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match=f"module 'kdstats.{package}' has no attribute 'nonsense'"):
        _ = room.nonsense

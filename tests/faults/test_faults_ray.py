"""A real Ray cluster of two nodes, one of which is killed while both work."""

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from study_under_fault import PATIENCE, at_work, environment, same, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2 * PATIENCE)]

# A process of its own: Ray leaves threads and warnings behind that are not ours.
_CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, second.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.readline()
cluster.remove_node(second, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture
def cluster(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # The code must come with the work: nodes do not have it.
        env={name: value for name, value in environment().items() if name != "PYTHONPATH"},
        cwd=tmp_path,
    )
    yield process
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        for member in (*family, process):
            member.kill()


def _held(raylet, out):
    """Workers of a node in the middle of a run."""
    pids = at_work(out)
    return [p for p in psutil.Process(raylet).children(recursive=True) if p.pid in pids]


def _brought(cluster):
    """Folders with the code that Ray unpacked for the processes which carry out runs."""
    found = []
    for process in psutil.Process(cluster.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("ray::_remote"):
                entries = map(Path, process.environ().get("PYTHONPATH", "").split(":"))
                found += [e for e in entries if "working_dir_files" in e.parts and (e / "runners").is_dir()]
    return found


def test_a_node_is_killed_and_every_run_ends_once(file, tmp_path, calm, cluster, start):
    out = tmp_path / "out"
    address, raylet = cluster.stdout.readline().split()
    words = ("--executor", "ray", "--set", f"executor.address={address}")
    driver = start("run", file, "--out", out, *words)
    wait_for(lambda: _held(int(raylet), out) or driver.process.poll() is not None)
    lost = _held(int(raylet), out)
    assert lost, "the second node was given nothing"
    assert _brought(cluster)
    for worker in lost:
        worker.suspend()  # so that the run is certainly in its middle when the node goes
    cluster.stdin.write("\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline().strip() == "removed"
    for (
        worker
    ) in lost:  # a machine that is lost takes them along; a suspended one may outlive its raylet here
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    _, said = driver.process.communicate(timeout=PATIENCE)
    assert driver.process.returncode == 0, said
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in lost)
    assert said.count("  done") == 4, said
    same(out, calm)


def test_nodes_that_share_no_folder_bring_their_runs_home(file, tmp_path, calm, cluster, start):
    out, store = tmp_path / "out", tmp_path / "a store"
    address, _ = cluster.stdout.readline().split()
    words = ("--executor", "ray", "--set", f"executor.address={address}")
    driver = start("run", file, "--out", out, *words, "--set", f"executor.store=file://{store}")
    runs = "runs/*/*/*/*"
    wait_for(lambda: len(list(store.glob(f"{runs}/snapshot-*"))) >= 2 or driver.process.poll() is not None)
    assert _brought(cluster)
    assert not list(out.glob(f"{runs}/state.pt")), "a worker wrote into the study's folder"
    cluster.stdin.write("\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline().strip() == "removed"
    _, said = driver.process.communicate(timeout=PATIENCE)
    assert driver.process.returncode == 0, said
    assert said.count("  done") == 4, said
    same(out, calm)

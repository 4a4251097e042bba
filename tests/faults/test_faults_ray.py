"""A real Ray cluster of two nodes, one of which is killed while both work."""

import subprocess
import sys

import psutil
import pytest
from study_under_fault import environment, same, wait_for

pytestmark = pytest.mark.faults

# A process of its own: Ray leaves threads and warnings behind that are not ours.
_CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
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
        env=environment(),
        cwd=tmp_path,
    )
    yield process
    process.stdin.close()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        for member in (*family, process):
            member.kill()


def test_a_node_is_killed_and_every_run_ends_once(file, tmp_path, calm, cluster, start):
    out = tmp_path / "out"
    address = cluster.stdout.readline().strip()
    words = ("--executor", "ray", "--set", f"executor.address={address}")
    driver = start("run", file, "--out", out, *words)
    # Both nodes hold one core each: two runs with whole epochs mean that both are at work.
    wait_for(lambda: len(list(out.rglob("state.pt"))) == 2 or driver.process.poll() is not None)
    at_work = len(list((out / "runs").rglob(".claim-*")))
    cluster.stdin.write("\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline().strip() == "removed"
    unfinished = 4 - len(list(out.rglob("done.json")))
    _, said = driver.process.communicate(timeout=500)
    assert driver.process.returncode == 0, said
    assert at_work == 2
    assert unfinished >= 2, "the node died too late to disturb anything"
    assert said.count("  done") == 4, said
    same(out, calm)

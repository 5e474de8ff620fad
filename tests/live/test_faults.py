"""What happens when processes are killed, told to stop, or given what they cannot use."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from backend import broker
from backend.queue import PredictionQueue, connect
from backend.showcase import free_port
from tests.live.conftest import (
    LABEL_CONFIG,
    ImageHost,
    Up,
    data_uri,
    processes,
    serving,
    start,
    wait_until,
)

pytestmark = pytest.mark.live


def in_background(call: Callable[[], requests.Response]) -> Callable[[], requests.Response]:
    """Start a request; the function that comes back waits for its answer."""
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()

    def wait() -> requests.Response:
        thread.join(60)
        return answers[0]

    return wait


def test_a_worker_killed_in_the_middle_of_a_request_costs_no_answer(
    launch: Callable[..., Up], image_host: ImageHost
) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1")
    worker = up.worker()

    def kill_the_first(path: str, count: int) -> None:
        if count == 1:
            os.kill(worker, signal.SIGKILL)

    image_host.before = kill_the_first
    answer = up.predict([f"{image_host.url}/one.png", data_uri(2), data_uri(3)])
    assert [len(entry["result"]) for entry in answer.json()["results"]] == [2, 2, 2]
    assert image_host.asked == ["/one.png", "/one.png"]


def test_a_task_that_takes_down_its_worker_twice_is_given_up_alone(
    launch: Callable[..., Up], image_host: ImageHost
) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1")

    def kill_always(path: str, count: int) -> None:
        os.kill(up.worker(), signal.SIGKILL)

    image_host.before = kill_always
    answer = up.predict([data_uri(1), f"{image_host.url}/poison.png", data_uri(2)])
    good, poison, other = answer.json()["results"]
    assert good["result"]
    assert other["result"]
    assert poison == []
    lost = [job for job in up.get("/jobs")["ended"] if job.get("error") == "WorkerLost"]
    assert [job["task"] for job in lost] == [2]


def test_a_stuck_worker_is_replaced(launch: Callable[..., Up], image_host: ImageHost) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1", JOB_TIMEOUT=1, IMAGE_TIMEOUT=600)
    hold = threading.Event()
    image_host.before = lambda path, count: None if count > 1 else (hold.wait(20), None)[1]
    first = up.worker()
    answer = up.predict([f"{image_host.url}/slow.png"])
    hold.set()
    assert answer.json()["results"][0]["result"]
    assert up.worker() != first


@pytest.mark.parametrize("role", ["backend.cli web", "valkey-server"])
def test_web_and_broker_come_back_when_killed(launch: Callable[..., Up], role: str) -> None:
    up = launch()
    up.predict([data_uri(1)])
    for pid in up.family(role):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: bool(set(up.family(role))))

    def answers() -> bool:
        try:
            return bool(up.predict([data_uri(2)]).json().get("results", [[]])[0])
        except requests.RequestException:
            return False

    wait_until(answers, 60)
    assert up.get("/jobs")["ended"]


def test_a_broker_that_hangs_is_told_as_down_until_it_goes_on(launch: Callable[..., Up]) -> None:
    up = launch()
    (hanging,) = up.family("valkey-server")
    os.kill(hanging, signal.SIGSTOP)
    try:
        assert up.get("/health")["broker"] == "DOWN"
        assert up.predict([data_uri(1)]).json()["error"] == "QueueUnavailable"
    finally:
        os.kill(hanging, signal.SIGCONT)
    wait_until(up.ready)
    assert up.predict([data_uri(1)]).json()["results"][0]["result"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_answers_what_is_in_flight_and_leaves_nobody(
    launch: Callable[..., Up], image_host: ImageHost, number: int
) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1")
    asked = threading.Event()

    def slow(path: str, count: int) -> None:
        asked.set()
        time.sleep(0.7)

    image_host.before = slow
    wait = in_background(lambda: up.predict([f"{image_host.url}/late.png"]))
    assert asked.wait(20)
    family = up.family()
    up.stop(number)
    assert up.process.returncode == 0
    assert len(wait().json()["results"][0]["result"]) == 2
    assert not set(family) & set(processes())


def test_killing_the_launcher_leaves_no_orphan(launch: Callable[..., Up]) -> None:
    up = launch()
    family = set(up.family()) - {up.process.pid}
    assert len(family) >= 4  # broker, web and its thread worker, worker
    up.stop(signal.SIGKILL)
    wait_until(lambda: not family & set(processes()), 10)


def test_what_the_broker_holds_survives_a_kill(
    launch: Callable[..., Up], tiny_checkpoint: Path
) -> None:
    up = launch()
    up.predict([data_uri(1), data_uri(2)])
    before = up.get("/jobs")["ended"]
    family = set(up.family())
    up.stop(signal.SIGKILL)
    wait_until(lambda: not family & set(processes()), 10)
    again = start(tiny_checkpoint, up.data_dir)
    try:
        wait_until(again.ready)
        assert again.get("/jobs")["ended"] == before
    finally:
        again.stop()


def test_a_deadline_gives_what_is_ready_and_asks_for_the_rest_again(
    launch: Callable[..., Up], image_host: ImageHost
) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1", PREDICT_DEADLINE=2, BATCH_SIZE=1)
    hold = threading.Event()
    image_host.before = lambda path, count: (hold.wait(8), None)[1]
    answer = up.predict([data_uri(1), f"{image_host.url}/slow.png", data_uri(2)])
    hold.set()
    ready, late, behind = answer.json()["results"]
    assert ready["result"]
    assert late == []
    assert behind == []
    wait_until(lambda: up.get("/jobs")["running"]["count"] == 0)
    reasons = [job.get("error") for job in up.get("/jobs")["ended"]]
    assert reasons.count("DeadlineExceeded") == 2


def test_an_interactive_request_overtakes_a_batch(
    launch: Callable[..., Up], image_host: ImageHost
) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1", BATCH_SIZE=1)
    image_host.before = lambda path, count: time.sleep(0.2)
    wait = in_background(lambda: up.predict([f"{image_host.url}/{i}.png" for i in range(30)]))
    wait_until(lambda: len(image_host.asked) >= 2)
    prompt = {"from_name": "prompt", "type": "textarea", "value": {"text": ["dog"]}}
    up.predict([data_uri(3)], params={"context": {"result": [prompt]}})
    assert len(image_host.asked) < 15
    assert all(entry["result"] for entry in wait().json()["results"])


def test_credentials_are_demanded_everywhere_but_by_probes(launch: Callable[..., Up]) -> None:
    up = launch(BASIC_AUTH_USER="ls", BASIC_AUTH_PASS="s3cret")
    for path in ("/", "/versions", "/jobs", "/metrics"):
        assert requests.get(up.url + path, timeout=10).status_code == 401
        assert requests.get(up.url + path, auth=("ls", "s3cret"), timeout=10).ok
    for path in ("/setup", "/predict", "/webhook"):
        refused = requests.post(up.url + path, json={}, timeout=10)
        assert (refused.status_code, refused.json()["error"]) == (401, "Unauthorized")
    assert requests.get(f"{up.url}/health", timeout=10).ok
    wrong = requests.get(f"{up.url}/health", auth=("ls", "wrong"), timeout=10)
    assert wrong.status_code == 401
    assert "s3cret" not in up.log.read_text()


def test_a_port_that_is_taken_is_told(launch: Callable[..., Up], tiny_checkpoint: Path) -> None:
    up = launch()
    port = up.url.rpartition(":")[2]
    second = start(tiny_checkpoint, up.data_dir.parent / "other", PORT=port)
    assert second.process.wait(20) == 78
    assert f"port {port}" in second.log.read_text()


def test_two_servers_never_share_a_data_folder(
    launch: Callable[..., Up], tiny_checkpoint: Path
) -> None:
    up = launch()
    second = start(tiny_checkpoint, up.data_dir / ".." / up.data_dir.name)
    assert second.process.wait(20) == 78
    assert "already up" in second.log.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PORT": "ninety"}, "PORT='ninety' cannot be used"),
        ({"PROMPTBRUSH_CHECKPOINT": "/no/such/folder"}, "/no/such/folder"),
        ({"DEVICE": "cuda:9"}, "cuda:9"),
        ({"PROMPTBRUSH_CHECKPOINT": "nobody/nothing", "HF_HUB_OFFLINE": "1"}, "demo"),
        ({"REDIS_URL": "ftp://x"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "does not answer"),
        ({"PROMPTBRUSH_BROKER": "/no/such/server"}, "/no/such/server"),
        ({"PROMPTBRUSH_DATA_DIR": "/proc/nowhere"}, "cannot be written"),
        ({"MODEL_DIR": "/proc/nowhere"}, "MODEL_DIR=/proc/nowhere cannot be written"),
        ({"PROMPTBRUSH_BROKER": "/etc/passwd"}, "PROMPTBRUSH_BROKER='/etc/passwd'"),
        ({"HOST": "192.0.2.1"}, "--host"),
        ({"HOST": "10.0..1"}, "--host"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line_and_ends_the_program(
    tiny_checkpoint: Path, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    environment = {
        **os.environ,
        "PORT": str(free_port()),
        "PROMPTBRUSH_DATA_DIR": str(tmp_path),
        "PROMPTBRUSH_CHECKPOINT": str(tiny_checkpoint),
        **settings,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "backend.cli", "up", "--quiet"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 78
    told = [line for line in ended.stderr.splitlines() if line.startswith("promptbrush: ")]
    assert len(told) == 1
    assert message in told[0]
    assert "Traceback" not in ended.stderr


def test_packages_of_the_folder_where_it_is_started_are_not_taken_for_its_own(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    for name in ("backend", "demo", "models"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise ImportError('not ours')")
    with serving(tiny_checkpoint, tmp_path / "data", cwd=here) as up:
        answer = up.predict([data_uri()])
    assert answer.json()["results"][0]["model_version"]
    assert "not ours" not in up.log.read_text()


def test_workers_without_a_launcher_hand_back_what_a_dead_one_held(
    tiny_checkpoint: Path, tmp_path: Path, image_host: ImageHost
) -> None:
    """As containers run: nobody watches over the processes but their peers, of the same name."""
    address = tmp_path / "s"
    server = broker.command(broker.find_server(None), address, tmp_path / "broker")
    environment = {
        **os.environ,
        "REDIS_URL": f"unix://{address}",
        "PROMPTBRUSH_CHECKPOINT": str(tiny_checkpoint),
        "PROMPTBRUSH_DATA_DIR": str(tmp_path),
        "IMAGE_HOSTS": "127.0.0.1",
    }
    command = [sys.executable, "-m", "backend.cli", "worker", "--name", "one"]
    killed = threading.Event()
    processes = [subprocess.Popen(server)]
    try:
        queue = PredictionQueue(connect(environment["REDIS_URL"]))
        wait_until(address.exists)
        first = subprocess.Popen(command, env=environment)
        processes.append(first)
        wait_until(lambda: len(queue.workers()) == 1)

        def kill_first(path: str, count: int) -> None:
            if not killed.is_set():
                killed.set()
                first.kill()

        image_host.before = kill_first
        task = {"id": 1, "data": {"image": f"{image_host.url}/one.png"}}
        jobs = queue.submit(
            [{"task": task, "label_config": LABEL_CONFIG}], urgent=False, deadline=90
        )
        assert killed.wait(20)
        processes.append(subprocess.Popen(command, env=environment))
        (answer,) = queue.wait(jobs, time.monotonic() + 80, lambda: False)
        assert answer is not None
        assert answer["regions"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)


def test_a_broker_of_ones_own_is_used_by_its_address_which_no_log_shows(
    launch: Callable[..., Up], tmp_path: Path
) -> None:
    port = free_port()
    secret = ["--requirepass", "s3cr3t", "--dir", str(tmp_path), "--save", ""]
    server = subprocess.Popen([broker.find_server(None), "--port", str(port), *secret])
    try:
        wait_until(lambda: _listens(port))
        up = launch(
            REDIS_URL=f"valkey://:s3cr3t@127.0.0.1:{port}/3",
            LABEL_STUDIO_URL="http://127.0.0.1:9",
            LABEL_STUDIO_API_KEY="k3y" * 13,
            LOG_LEVEL="DEBUG",
        )
        (entry,) = up.predict([data_uri()]).json()["results"]
        assert entry["result"]
        server.kill()
        server.wait()
        wait_until(lambda: up.get("/health")["broker"] == "DOWN")
        assert up.predict([data_uri()]).json()["error"] == "QueueUnavailable"
        up.stop()
        log = up.log.read_text()
        assert "s3cr3t" not in log
        assert "k3y" not in log
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

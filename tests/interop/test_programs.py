"""Handlers in any language: programs and HTTP endpoints that settings name."""
import http.server
import json
import os
import stat
import threading
import time

import pytest

from conftest import wait_for


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def endpoint():
    """An endpoint that answers as its path says; what it was asked is kept."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, call, self.headers["Idempotency-Key"]))
            status, answer = 200, json.dumps({"sum": sum(call["args"])})
            if self.path == "/later" and call["retries"] < 1:
                status, answer = 503, "busy"
            if self.path == "/wrong":
                status, answer = 422, "no such thing"
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked = asked
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def worker(cluster, endpoint, module_folder):
    shell = program(module_folder / "greet.sh", '#!/bin/sh\nname=$(sed \'s/.*"name":"\\([^"]*\\)".*/\\1/\')\nprintf \'{"greeting":"hello %s","id":"%s"}\\n\' "$name" "$FEED_JOB_ID"\n')
    exits = program(module_folder / "exits.sh", '#!/bin/sh\ncat >/dev/null\necho "some noise" >&2\necho "the disk is away" >&2\n[ "$FEED_JOB_RETRIES" -ge "$1" ] || exit 75\nexit 3\n')
    prints = program(module_folder / "prints.sh", '#!/bin/sh\ncat >/dev/null\nprintf "%s" "$*"\n')
    sleeps = program(module_folder / "sleeps.sh", '#!/bin/sh\necho $$ > "$1"\nexec sleep 300\n')
    parent = program(module_folder / "parent.sh", '#!/bin/sh\nif [ "$2" = deaf ]; then trap "" TERM; fi\nsleep 300 &\necho $! > "$1"\nwait\n')
    echo = program(module_folder / "echo.py", '#!/usr/bin/env python3\nimport json, sys\njson.dump(json.load(sys.stdin), sys.stdout)\n')
    return cluster.job(**{
        "exec": f"greet={shell}; exits={exits} 1; prints={prints} not json; silent=/bin/true; sleeps={sleeps} {module_folder}/pid; "
                f"parent={parent} {module_folder}/pid; deaf={parent} {module_folder}/pid deaf; "
                f"python={echo}; missing=/no/such/program; killed={program(module_folder / 'killed.sh', '#!/bin/sh' + chr(10) + 'kill -9 $$' + chr(10))}",
        "http": f"sum={endpoint.url}/sum; later={endpoint.url}/later; wrong={endpoint.url}/wrong; nobody=http://127.0.0.1:9/"})


def test_shell_script(app):
    result = app.send_task("greet", kwargs={"name": "Ada"})
    assert result.get(timeout=30) == {"greeting": "hello Ada", "id": result.id}


def test_python_program_gets_all_of_the_call(app):
    result = app.send_task("python", [1, "ü", None], {"a": {"b": [True]}})
    assert result.get(timeout=30) == {"id": result.id, "task": "python", "args": [1, "ü", None], "kwargs": {"a": {"b": [True]}}, "retries": 0}


def test_large_input_and_output(app):
    text = "x" * 3_000_000
    assert app.send_task("python", [text]).get(timeout=60)["args"] == [text]


def test_no_output_is_null(app):
    assert app.send_task("silent").get(timeout=30) is None


def test_tries_again_and_then_fails(app):
    """Exit status 75 is for later, another is a failure; why is the last line that it complained."""
    with pytest.raises(RuntimeError, match="exit status 3: the disk is away"):
        app.send_task("exits").get(timeout=60)


def test_programs_that_go_wrong(app):
    with pytest.raises(ValueError, match="not JSON"):
        app.send_task("prints").get(timeout=30)
    with pytest.raises(RuntimeError, match="exit status 127: .*No such file"):
        app.send_task("missing").get(timeout=30)
    with pytest.raises(RuntimeError, match="signal 9"):
        app.send_task("killed").get(timeout=30)


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as state:
            return state.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("task", ["sleeps", "parent", "deaf"])
@pytest.mark.parametrize("limits, name", [({"soft_time_limit": 1}, "SoftTimeLimitExceeded"), ({"time_limit": 1}, "TimeLimitExceeded")])
def test_limits_end_the_program_too(app, module_folder, limits, name, task):
    """And what it has started, also where that does not listen to SIGTERM."""
    result = app.send_task(task, **limits)
    pid = wait_for(lambda: (module_folder / "pid").exists() and (module_folder / "pid").read_text().strip(), "it runs")
    with pytest.raises(Exception, match=name):
        result.get(timeout=30)
    wait_for(lambda: gone(pid), "the program is gone")
    os.unlink(module_folder / "pid")


def test_http_endpoint(app, endpoint):
    result = app.send_task("sum", [20, 22])
    assert result.get(timeout=30) == {"sum": 42}
    path, call, key = endpoint.asked[-1]
    assert path == "/sum" and call["id"] == key == result.id


def test_http_endpoint_that_is_busy_or_refuses(app, endpoint):
    assert app.send_task("later", [1]).get(timeout=60) == {"sum": 1}
    with pytest.raises(RuntimeError, match="422: no such thing"):
        app.send_task("wrong", [1]).get(timeout=30)
    with pytest.raises(RuntimeError):
        app.send_task("nobody", [1]).get(timeout=60)


def test_a_line_that_would_be_cut_ends_the_start(make_cluster, tmp_path):
    """The longest one runs with all its words."""
    count = program(tmp_path / "count.sh", '#!/bin/sh\ncat >/dev/null\necho $#\n')
    cluster = make_cluster()
    cluster.job(exec=f"count={count}{' x' * 62}")
    assert cluster.app().send_task("count").get(timeout=60) == 62
    for line in (f"{count}{' x' * 63}", f"{count} {'x' * 4096}"):
        worker = cluster.job(exec=f"count={line}", wait=False)
        assert worker.popen.wait(60) != 0
        assert worker.logged("setting job.exec: the line of count has more than 4095 bytes or 63 words"), worker.output()
        cluster.processes.remove(worker)  # that exit status is on purpose

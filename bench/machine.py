"""What is asked of the machine: processes with their CPU time and memory, floors, and wrk."""
import contextlib
import ctypes
import http.client
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOOLS = ROOT / "build/bench"
TICKS = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438  # pidfd_getfd(2), the same number on every architecture; Linux 5.6


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=60.0, every=0.02):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)
    return value


def cpu_seconds(pids):
    """User and system time of these processes so far."""
    total = 0.0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def pss_mib(pids):
    """Memory, pages shared with others counted in part."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    return total / 1024


def lose_connections(pid, ports):
    """Ends each connection that a process has to one of these ports, as if the network had: how many there were. Of a process that the caller may trace."""
    lost, process = 0, os.pidfd_open(pid)
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            descriptor = LIBC.syscall(PIDFD_GETFD, process, int(number), 0)
            if descriptor < 0:
                continue  # closed meanwhile
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                continue
            with socket.socket(fileno=descriptor) as end, contextlib.suppress(OSError):  # one that listens has no peer
                if end.family == socket.AF_INET and end.getpeername()[1] in ports:
                    end.shutdown(socket.SHUT_RDWR)
                    lost += 1
    finally:
        os.close(process)
    return lost


class Counter:
    """A metric of a program, summed over its labels but those that are named. Asked over one connection: who looks takes nothing from what is measured."""

    def __init__(self, admin, name, label=""):
        self.connection = http.client.HTTPConnection(admin.removeprefix("http://"), timeout=10)
        self.samples = re.compile(rf"^{name}\{{[^}}]*{label}[^}}]*\}} (\S+)$", re.M)

    def __call__(self):
        self.connection.request("GET", "/metrics")
        return sum(map(float, self.samples.findall(self.connection.getresponse().read().decode())))


def handled(worker):
    """Records that it has done."""
    if not hasattr(worker, "handled"):
        worker.handled = Counter(worker.admin, "feedmill_worker_records_total", 'outcome="done"')
    return worker.handled()


class Program:
    """One that stays until it is stopped, in a session of its own. `with` stops it."""

    def __init__(self, argv, env=None, cwd=ROOT):
        self.log = tempfile.TemporaryFile()
        self.popen = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=cwd,
                                      env={**os.environ, **(env or {})}, start_new_session=True)
        self.pid = self.popen.pid

    def output(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def wait_output(self, pattern, seconds=60):
        def found():
            if self.popen.poll() is not None:
                raise Failed(f"{self.popen.args[0]} ended with {self.popen.returncode}:\n{self.output()[-2000:]}")
            return re.search(pattern, self.output(), re.M)
        return wait_until(found, f"{self.popen.args[0]} says {pattern}", seconds)

    def stop(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.popen.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()


def words(options):
    return [f"{name}={value}" for name, value in options.items()]


def floor_server(name, **options):
    """A floor that serves HTTP, ready."""
    port = free_port()
    program = Program([TOOLS / name, *words({"PORT": port, **options})])
    program.wait_output("^ready")
    program.port = port
    return program


def floor(name, timeout=600, **options):
    """A floor that ends by itself: its figures."""
    done = subprocess.run([TOOLS / name, *words(options)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(f"{name} {words(options)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return {key: float(value) for key, value in (line.split() for line in done.stdout.splitlines())}


WRK_DONE = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %.1f %.3f %.3f %d %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk_with_errors(url, connections, seconds, script="", patience=2):
    """wrk on one thread: requests a second, p50 and p99 in milliseconds; how many were answered, and how many failed or took longer than `patience` seconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script + WRK_DONE)
        lua.flush()
        done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={patience}s", "-s", lua.name, url], capture_output=True, text=True,
                              timeout=seconds + 60)
    result = re.search(r"^RESULT (\S+) (\S+) (\S+) (\d+) (\d+)", done.stdout, re.M)
    if not result:
        raise Failed(f"wrk {url}: {done.stdout}{done.stderr}")
    return {"rate": float(result[1]), "p50": float(result[2]), "p99": float(result[3]), "requests": int(result[4]), "errors": int(result[5])}


def wrk(url, connections, seconds, script="", patience=2):
    """As above, but a request that failed fails the run."""
    figures = wrk_with_errors(url, connections, seconds, script, patience)
    if figures.pop("errors"):
        raise Failed(f"wrk {url}: requests failed")
    del figures["requests"]
    return figures


def wrk_on(pids, url, connections, seconds, script=""):
    """wrk on these processes: also what they took of the processors for a request, in µs, and of memory afterwards, in MiB."""
    cpu = cpu_seconds(pids)
    figures = wrk(url, connections, seconds, script)
    return {**figures, "cpu_us": (cpu_seconds(pids) - cpu) / (figures["rate"] * seconds) * 1e6, "pss": pss_mib(pids)}


def taken(figures, count):
    """Of a floor that ended: the same, for each of so many."""
    return {"cpu_us": figures["cpu_seconds"] / count * 1e6, "pss": figures["pss_mib"]}


@contextlib.contextmanager
def taking(pids, figures, count):
    """The same, of what these processes do meanwhile, into `figures`."""
    cpu = cpu_seconds(pids)
    yield
    figures.update(cpu_us=(cpu_seconds(pids) - cpu) / count * 1e6, pss=pss_mib(pids))


# One post after another, by as many authors as there are, from the one behind `after`; the story is the peers'.
def posts_script(authors, after=0):
    return f"""
local n, authors = {after}, {authors}
local body = '{{"from": "/participant/%d", "occurred": "2026-01-31T12:00:00Z", "subject": "subject %d", "story": "%s"}}'
local story = string.rep("lorem ipsum dolor sit amet ", 7)
local headers = {{["Content-Type"] = "application/json"}}
request = function()
  n = n + 1
  local id = n % authors + 1
  return wrk.format("POST", "/participant/" .. id .. "/outbound", headers, body:format(id, n, story))
end
"""


PRODUCT_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name": "a product", "price": 12.5}'
"""

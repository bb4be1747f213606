"""Servers that a run has for itself, and may kill, stop, fill up and start again."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import uuid

import pymysql

from feedmill import wait_for
from proxy import Proxy


def state_of(pid):
    """The letter of /proc: R, S, T for stopped, Z for dead and for gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


HERE = pathlib.Path(__file__).resolve().parent


class PrivateServers:
    def __init__(self):
        stack = pathlib.Path(sys.prefix).parent          # .stack/venv runs this
        self.downloads = (stack / "download").resolve()
        self.folder = stack / "faults" / uuid.uuid4().hex[:8]
        self.folder.mkdir(parents=True)
        self.mounts = []
        self.kafka = Proxy("127.0.0.1", 0)      # Kafka has to know its address before it starts
        self.mysql = self.search = None

    def run(self, *arguments):
        done = subprocess.run([HERE / "servers.sh", self.folder, self.downloads, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=900, env={**os.environ, "KAFKA_PROXY": str(self.kafka.port)})
        assert done.returncode == 0, f"servers {arguments}: {done.stderr}"
        return done.stdout

    def up(self):
        self.addresses = dict(line.split("=", 1) for line in self.run("up").splitlines())
        self.kafka.target = ("127.0.0.1", int(self.addresses["KAFKA_FAULTS"].rpartition(":")[2]))
        self.mysql = Proxy(self.addresses["MYSQL_HOST"], self.addresses["MYSQL_PORT"])
        self.search = Proxy(*self.addresses["SEARCH_URL"].removeprefix("http://").split(":"))
        return self

    def proxies(self):
        """Of each server, once it is up, what programs reach it through."""
        return {"kafka": self.kafka, "mysql": self.mysql, "search": self.search}

    def settings(self):
        """What programs are told, so that all that they say goes through the proxies."""
        return {"kafka.brokers": f"127.0.0.1:{self.kafka.port}", "mysql.port": self.mysql.port, "search.url": f"http://127.0.0.1:{self.search.port}"}

    def pid(self, name):
        return int((self.folder / "run" / f"{name}.pid").read_text().split()[0])

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    def kill(self, name):
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: state_of(pid) == "Z", f"{name} is dead")

    def terminate(self, name):
        pid = self.pid(name)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: state_of(pid) == "Z", f"{name} has ended", 60)

    def start(self, name):
        self.run("start", name)

    def log(self, name):
        return self.folder / "log" / f"{name}.log"

    def admin(self):
        """The database's own administrator."""
        return pymysql.connect(host=self.addresses["MYSQL_HOST"], port=int(self.addresses["MYSQL_PORT"]), user="faults", password="faults", autocommit=True)

    def administer(self, statement):
        with self.admin() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def mount(self, name, megabytes):
        """The folder of a server that is not up yet on a small disk of its own. False: this user may not."""
        folder = self.folder / name
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", folder], capture_output=True)
        if done.returncode == 0:
            self.mounts.append(folder)
        return done.returncode == 0

    def down(self):
        for proxy in (self.kafka, self.mysql, self.search):
            if proxy is not None:
                proxy.close()
        self.run("down")
        for folder in self.mounts:
            subprocess.run(["umount", folder], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)

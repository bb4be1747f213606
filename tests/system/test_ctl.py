"""feedctl: what an operator types."""
import json
import re
import subprocess

import pytest

from expect import link
from feedmill import BUILD, ROOT, server, wait_for


def test_migrate_and_topics_twice(make_feed):
    feed = make_feed()
    assert feed.ctl("topics", "--check", check=False).returncode == 1
    first = feed.ctl("migrate").stdout
    assert "001" in first
    again = feed.ctl("migrate").stdout
    assert "001" not in again or "already" in again
    assert "created" in feed.ctl("topics").stdout
    assert "created" not in feed.ctl("topics").stdout
    feed.ctl("topics", "--check")
    assert feed.tables() >= {"participant", "friend", "outbound", "inbound", "product", "command", "fanout_chunk", "gateway_lease"}


def test_two_migrations_at_once(make_feed):
    feed = make_feed()
    feed.ctl("--help")
    running = [subprocess.Popen([BUILD / "feedctl", "-c", feed.config, "migrate"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(3)]
    for migration in running:
        out, _ = migration.communicate(timeout=60)
        assert migration.returncode == 0, out
    assert feed.one("SELECT COUNT(*) FROM schema_version") == len(list(ROOT.glob("sql/mysql/*.sql")))


def test_lag(make_feed):
    feed = make_feed().prepare()
    for n in range(3):
        feed.produce("feed.posts", b"x", key=str(n))
    lines = {line.split()[0]: line.split() for line in feed.ctl("lag").stdout.splitlines() if line.strip() and ".retry." not in line}
    assert {"command", "fanout", "chunk", "index"} <= set(lines)
    assert "3" in lines["fanout"] and "3" in lines["index"] and "3" not in lines["chunk"][1:]


def test_tail(feed, client):
    made = client.ok("POST", "/products", {"name": "tailed\n", "price": 1})["id"]
    out = wait_for(lambda: (o := feed.ctl("tail", "product_events", "--from-beginning", "--timeout", "5").stdout) and str(made) in o and o, "the event")
    assert r'{"action":"created","id":%d,"name":"tailed\n"}' % made in out
    unknown = feed.ctl("tail", "nothing", check=False)
    assert unknown.returncode != 0 and "product_events" in unknown.stderr


def test_post(feed, client):
    author = client.participant()
    gateway = next(p for p in feed.processes if p.name.startswith("gateway"))
    out = feed.ctl("post", author, "from the shell", "a story", env={"FEEDMILL_GATEWAY_LISTEN": gateway.url.removeprefix("http://"), "PATH": "/usr/bin"}).stdout
    assert json.loads(out[out.index("{"):])["from"] == link(author)
    wait_for(lambda: client.outbound(author), "the post")


def test_story(feed):
    gateway = next(p for p in feed.processes if p.name.startswith("gateway"))
    out = feed.ctl("story", env={"FEEDMILL_GATEWAY_LISTEN": gateway.url.removeprefix("http://"), "PATH": "/usr/bin"}).stdout
    for step in ("POST /participant", "/friends", "/outbound", "/inbound", "keywords=", "POST /products", "created"):
        assert step in out, step


def test_story_fails_when_nothing_works(make_feed):
    feed = make_feed(gateway__listen="127.0.0.1:1")
    done = feed.ctl("story", check=False)
    assert done.returncode == 1 and done.stderr


@pytest.mark.servers("their settings are shown")
def test_config_check_and_show(make_feed):
    feed = make_feed()
    feed.ctl("config", "check")
    shown = feed.ctl("config", "show").stdout
    assert feed.database in shown and server("MYSQL_PASSWORD") not in [line.split("=")[-1].strip(' ;"') for line in shown.splitlines() if "password" in line]
    feed.config.write_text("kafka: { brokers = \"x\"; };\nmysql: { prot = 5; };\n")
    bad = feed.ctl("config", "check", check=False)
    assert bad.returncode == 2 and f"{feed.config}:2" in bad.stderr and "mysql.prot" in bad.stderr


@pytest.mark.parametrize("program", ["feed-gateway", "feed-worker", "feedctl"])
def test_help_version_and_wrong_options(program):
    shown = subprocess.run([BUILD / program, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "--config" in shown.stdout
    version = subprocess.run([BUILD / program, "--version"], capture_output=True, text=True)
    assert version.returncode == 0 and version.stderr == ""
    libraries = {"librdkafka", "libmariadb", "sqlite", "libcurl", "cJSON", "libconfig"}
    libraries |= {"feed-gateway": {"libmicrohttpd", "libyaml"}, "feed-worker": {"libmicrohttpd"}}.get(program, set())
    named = dict(re.findall(r"(\w+) (\d[\w.]*)", version.stdout.splitlines()[1]))
    assert {"libmariadb" if name == "libmysqlclient" else name for name in named} == libraries
    wrong = subprocess.run([BUILD / program, "--nothing"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "--help" in wrong.stderr


def test_unknown_verb():
    wrong = subprocess.run([BUILD / "feedctl", "mirgate"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "migrate" in wrong.stderr


@pytest.mark.parametrize("program", [["feed-gateway"], ["feed-worker", "fanout"], ["feedctl", "lag"]])
@pytest.mark.parametrize("text, words", [
    ("mysql: { port = 70000; };", "mysql.port"), ("mysql: { port = \"3306\"; };", "mysql.port"), ("nothing = 1;", "nothing"), ("gateway: { treads = 2; };", "gateway.treads"),
    ("mysql: { port = ; };", "syntax"), ("mysql: { port = 3000000000; };", "mysql.port"), ("log: { level = \"loud\"; };", "log.level"),
])
def test_settings_that_are_wrong_stop_every_program(folder, program, text, words):
    file = folder / "wrong.cfg"
    file.write_text("\n" + text + "\n")
    done = subprocess.run([BUILD / program[0], "-c", file, *program[1:]], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and f"{file}:2" in done.stderr and words in done.stderr, done.stderr


@pytest.mark.servers("one with a password")
def test_settings_from_environment_and_password_file(make_feed, tmp_path):
    feed = make_feed()
    wrong = feed.ctl("config", "check", check=False, env={"FEEDMILL_MYSQL_PORT": "x"})
    assert wrong.returncode == 2 and "FEEDMILL_MYSQL_PORT" in wrong.stderr
    unknown = feed.ctl("config", "check", check=False, env={"FEEDMILL_MYSQL_PROT": "1"})
    assert unknown.returncode == 2 and "FEEDMILL_MYSQL_PROT" in unknown.stderr
    secret = tmp_path / "password"
    secret.write_text(server("MYSQL_PASSWORD") + "\n")
    secret.chmod(0o600)
    del feed.settings["mysql.password"]
    feed.settings["mysql.password_file"] = str(secret)
    feed.write_config()
    feed.ctl("migrate")
    secret.chmod(0o644)
    readable = feed.ctl("migrate", check=False)
    assert readable.returncode == 2 and str(secret) in readable.stderr

"""What `make install` puts where, and that manual pages, completion and service units know what the programs know."""
import pathlib
import re
import shutil
import subprocess

import pytest

from feedmill import BUILD, ROOT

pytestmark = pytest.mark.once

PROGRAMS = ["feed-gateway", "feed-worker", "feedctl"]


def said(*command, **more):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, timeout=60, **more).stdout


def help_of(program, *words):
    return said(BUILD / program, *words, "--help")


def verbs():
    text = help_of("feedctl")
    return re.findall(r"^  ([a-z]+)\b", text[text.index("\nverbs "):], re.M)


def workers():
    return [line.split()[0] for line in said(BUILD / "feed-worker", "--list").splitlines()]


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*|(?<![\w\[-])-[a-zA-Z]\b", text))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    said("make", "install", f"DESTDIR={root}", f"BUILD={BUILD}", "PREFIX=/usr/local", cwd=ROOT)
    return root


@pytest.fixture(scope="module")
def pages(installed):
    files = sorted((installed / "usr/local/share/man").glob("man?/*"))
    return {file.name: re.sub(".\b", "", said("mandoc", "-T", "utf8", "-O", "width=200", file)) for file in files}


# ---- files

def test_install_again_keeps_settings_and_uninstall_leaves_nothing_else(tmp_path):
    make = ["make", f"DESTDIR={tmp_path}", f"BUILD={BUILD}", "PREFIX=/usr"]
    said(*make, "install", cwd=ROOT)
    settings = tmp_path / "etc/feedmill/feedmill.cfg"
    assert settings.stat().st_mode & 0o777 == 0o640
    settings.write_text("# mine\n")
    said(*make, "install", cwd=ROOT)
    assert settings.read_text() == "# mine\n"
    said(*make, "uninstall", cwd=ROOT)
    assert [file for file in tmp_path.rglob("*") if not file.is_dir()] == [settings]


def test_installed_settings_name_installed_files(installed):
    root = installed / "usr/local"
    settings = (root / "etc/feedmill/feedmill.cfg").read_text()
    assert 'contract = "/usr/local/share/feedmill/feedmill.openapi.yaml"' in settings
    for file in ("share/feedmill/feedmill.openapi.yaml", "share/feedmill/feedmill.asyncapi.yaml", "share/doc/feedmill/README.md"):
        assert (root / file).stat().st_size > 0
    assert {p.name for p in (root / "share/feedmill/sql/mysql").iterdir()} == {p.name for p in (ROOT / "sql/mysql").iterdir()}
    for program in PROGRAMS:
        assert said(root / "bin" / program, "--version").startswith(program + " ")
    said(root / "bin/feedctl", "-c", root / "etc/feedmill/feedmill.cfg", "config", "check")


# ---- manual pages

def test_pages_are_well_formed(installed, pages):
    assert set(pages) == {"feed-gateway.1", "feed-worker.1", "feedctl.1", "feedmill.cfg.5"}
    said("mandoc", "-T", "lint", "-W", "warning", *sorted((installed / "usr/local/share/man").glob("man?/*")))


@pytest.mark.parametrize("program", PROGRAMS)
def test_page_has_every_option(pages, program):
    page = pages[program + ".1"]
    wanted = options(help_of(program))
    assert {"-c", "--config", "--check-config", "-h", "--help", "-V", "--version"} <= wanted
    assert wanted <= options(page), f"not in {program}.1"


def test_page_has_every_verb_with_its_options(pages):
    page = pages["feedctl.1"]
    assert len(verbs()) >= 8
    for verb in verbs():
        entry = re.search(rf"^     {verb}\b.*(\n(?!\n     [a-z]).*)*", page, re.M)
        assert entry, f"feedctl.1 has no verb {verb}"
        usage = help_of("feedctl", verb)
        wanted = options(usage[usage.index("usage:"):]) - {"--help"}
        assert wanted <= options(entry[0]), f"feedctl.1, verb {verb}"


def test_page_has_every_worker(pages):
    for worker in workers():
        assert re.search(rf"^     {worker}\b", pages["feed-worker.1"], re.M), worker


def test_page_has_every_setting(pages):
    names, group = [], ""
    for line in said(BUILD / "feedctl", "config", "show", env={}).splitlines():
        if match := re.match(r"([a-z]+):$", line):
            group = match[1] + "."
        elif line.startswith("};"):
            group = ""
        elif match := re.match(r"\t?([a-z_]+) = ", line):
            names.append(group + match[1])
    assert len(names) > 40
    for name in names:
        assert re.search(rf"^     {re.escape(name)}$", pages["feedmill.cfg.5"], re.M), name


# ---- completion

def completed(*words):
    """What bash offers behind these words; the last is the one that is typed."""
    script = 'set -u; . "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); ' \
        'f=$(complete -p "$1" | sed "s/.*-F \\([^ ]*\\).*/\\1/"); "$f"; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", ROOT / "deploy/completion/feedctl", *words], capture_output=True, text=True,
                          check=True, timeout=30, env={"PATH": f"{BUILD}:/usr/bin:/bin"})
    assert done.stderr == ""
    return set(done.stdout.split())


def test_completion_knows_verbs_and_options():
    assert completed("feedctl", "") == set(verbs())
    assert completed("feedctl", "mi") == {"migrate"}
    assert completed("feedctl", "-c", "/etc/x.cfg", "lag", "--") == {"--partitions", "--watch", "--every", "--help"}
    assert completed("feedctl", "--ch") == {"--check-config"}
    assert completed("feedctl", "config", "") == {"check", "show"}
    assert completed("feedctl", "config", "check", "") == set()
    assert {"feed.posts", "fanout.dlq", "product_events"} <= completed("feedctl", "tail", "")
    assert completed("feedctl", "-c", "/etc/passw") == {"/etc/passwd", *(str(p) for p in pathlib.Path("/etc").glob("passwd?*"))}


def test_completion_knows_workers():
    assert completed("feed-worker", "") == set(workers())
    assert completed("feed-worker", "--l") == {"--list"}
    assert completed("feed-gateway", "--v") == {"--version"}
    assert completed("feed-gateway", "") == set()


# ---- service units

UNITS = ["feed-gateway.service", "feed-gateway.socket", "feed-worker@.service", "feedmill.target"]


@pytest.fixture(scope="module")
def units(installed):
    return installed / "usr/local/lib/systemd/system"


def settings_of(unit):
    return [tuple(line.split("=", 1)) for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]


def test_units_start_what_is_installed(installed, units):
    assert sorted(p.name for p in units.iterdir()) == sorted(UNITS)
    for name in UNITS:
        for key, value in settings_of(units / name):
            if key == "ExecStart":
                assert (installed / value.split()[0].lstrip("/")).exists(), value
            if key == "LoadCredential":
                assert (installed / value.split(":")[1].lstrip("/")).exists(), value


def test_systemd_understands_the_units(installed, units, tmp_path):
    """With the programs where the units say; what other packages bring is not looked at."""
    root = tmp_path / "root"
    shutil.copytree(installed, root, symlinks=True)
    for name in ("sysinit", "basic", "shutdown", "network-online", "multi-user", "sockets"):
        (root / "usr/local/lib/systemd/system" / f"{name}.target").write_text("[Unit]\nDescription=stands in\n")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--root={root}", *UNITS[:2], "feed-worker@fanout-2.service", UNITS[3]],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stop_is_told_to_the_worker_alone(units):
    """Its children, and the programs that they run, would die of the same SIGTERM, and their jobs with them. Killed in the end they all are."""
    service = (units / "feed-worker@.service").read_text().split("[Service]\n")[1].split("\n[")[0].splitlines()
    assert [line for line in service if line.startswith(("KillMode=", "KillSignal=", "SendSIGKILL="))] == ["KillMode=mixed"]


def test_the_drop_in_of_the_manual_gives_the_job_worker_room(units, tmp_path):
    """As docs/operations.md has it: systemd takes it, and it is what the unit lacks for job.files and job.state_file."""
    text = (ROOT / "docs/operations.md").read_text()
    drop_in = "".join(line[4:] + "\n" for line in re.search(r"(?:^    .*\n)+", text[text.index("systemctl edit feed-worker@job"):], re.M)[0].splitlines())
    unit = (units / "feed-worker@.service").read_text()
    assert "ProtectSystem=strict" in unit and not re.search(r"^(StateDirectory|ReadWritePaths)=", unit, re.M), "then it needs no drop-in"
    assert re.search(r"^StateDirectory=feedmill$", drop_in, re.M) and '"/var/lib/feedmill"' in text
    whole = tmp_path / "feed-worker@job.service"
    whole.write_text(re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", unit, flags=re.M).replace("\n[Install]", drop_in.replace("[Service]", "") + "\n[Install]"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", whole], capture_output=True, text=True, timeout=60)
    assert whole.name not in done.stderr, done.stderr


def test_target_wants_gateway_and_every_worker(units):
    wanted = {unit for key, value in settings_of(units / "feedmill.target") if key == "Wants" for unit in value.split()}
    assert wanted == {"feed-gateway.socket", "feed-gateway.service", *(f"feed-worker@{name}.service" for name in workers())}


@pytest.mark.parametrize("name", ["feed-gateway.service", "feed-worker@.service"])
def test_exposure(units, name):
    """Exit code 0: at most the threshold, in tenths."""
    def exposed(threshold):
        return subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={threshold}", units / name],
                              capture_output=True, text=True, timeout=60)
    held = exposed(20)
    assert held.returncode == 0, held.stdout[-300:] + held.stderr
    assert exposed(5).returncode != 0


def test_unit_names_are_workers_with_replicas():
    """feed-worker@fanout-2 runs fanout; what is no worker is refused."""
    for word in ("fanout-2", "fanout-a-b"):
        assert said(BUILD / "feed-worker", "--check-config", word).startswith("settings are right")
    for word in ("fan-out", "fanout-", "-2", "fanout2"):
        done = subprocess.run([BUILD / "feed-worker", "--", word], capture_output=True, text=True, timeout=20, env={})
        assert done.returncode == 2 and "fanout" in done.stderr, word

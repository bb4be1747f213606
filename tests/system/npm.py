"""Files of an npm package, fetched once into .stack by npm's own client, whose settings say where from."""
import base64
import hashlib
import pathlib
import subprocess
import tempfile

from feedmill import ROOT


def package(name, version, sha512):
    """The package's folder. sha512 is base64, as npm writes it: what is fetched is what was looked at."""
    folder = ROOT / ".stack/download" / f"{name.replace('/', '-').removeprefix('@')}-{version}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        subprocess.run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", place, f"{name}@{version}"],
                       cwd=place, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        tarball, = pathlib.Path(place).glob("*.tgz")
        assert base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode() == sha512, f"{tarball.name} is another"
        subprocess.run(["tar", "-xzf", tarball, "-C", place, "--no-same-owner"], check=True)
        (pathlib.Path(place) / "package").rename(folder)
    return folder

"""Priors of the hub: a server on this machine speaks its protocol; the cache, offline mode, and every way to say no."""

import hashlib
import http.server
import json
import pathlib
import threading
import time

import pytest

import jaxdiff as jd
from jaxdiff import hub

constants = pytest.importorskip("huggingface_hub.constants")

FAMILIES = pathlib.Path(__file__).parent / "golden" / "families"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FOLDER = {p.name: p.read_bytes() for p in (FAMILIES / "diffusers_ddpm").iterdir()}
REPOS = {
    "us/faces": FOLDER,
    "us/lone": {"net.pkl": (FAMILIES / "edm_ncsnpp.pkl").read_bytes(), "README.md": b"hello"},
    "us/several": {"a.pth": b"", "b.pth": b""},
    "us/empty": {"README.md": b"hello"},
    "us/hostile": {"net.pt": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85R."},
    "us/cut": {"config.json": FOLDER["config.json"]},
}


class Handler(http.server.BaseHTTPRequestHandler):
    """What the hub answers about files and repositories."""

    asked: list[str] = []

    def log_message(self, *_):
        pass

    def say(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        listing = parts[:2] == ["api", "models"]
        parts = parts[2:] if listing else parts
        repo, revision = "/".join(parts[:2]), parts[3] if len(parts) > 3 else "main"
        if repo == "us/gated":
            return self.say(403, X_Error_Code="GatedRepo", X_Error_Message="gated")
        if repo not in REPOS:
            return self.say(404, X_Error_Code="RepoNotFound")
        if revision not in ("main", COMMIT):
            return self.say(404, X_Error_Code="RevisionNotFound", X_Error_Message="revision")
        if listing and "tree" in parts:
            files = [{"type": "file", "path": n, "oid": "0" * 40, "size": len(b)} for n, b in REPOS[repo].items()]
            return self.say(200, json.dumps(files).encode(), Content_Type="application/json")
        if listing:
            siblings = [{"rfilename": name} for name in REPOS[repo]]
            answer = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}
            return self.say(200, json.dumps(answer).encode(), Content_Type="application/json")
        body = REPOS[repo].get("/".join(parts[4:]))
        if body is None:
            return self.say(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        return self.say(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


def point_at(monkeypatch, port):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    template = f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def server(tmp_path, monkeypatch):
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    point_at(monkeypatch, served.server_port)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv(hub.FOLDER, str(tmp_path / "priors"))
    Handler.asked = []
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def offline(server, monkeypatch):
    def turn_off():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    return turn_off


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:google/ddpm-cat-256", ("google/ddpm-cat-256", None, None)),
        ("hf:a/b@v1.0/x:unet/c.safetensors", ("a/b", "v1.0/x", "unet/c.safetensors")),
        ("hf:a/b:c.pth", ("a/b", None, "c.pth")),
    ],
)
def test_addresses(text, parts):
    address = hub.parse_address(text)
    assert address == parts
    assert str(address) == text


@pytest.mark.parametrize("text", ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/b:../../x.pt", "hf:a/b@", "hf:a b/c"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="is no address on the hub"):
        jd.load_denoiser(text)


def test_a_folder_is_fetched_and_converted_once(server, offline):
    denoiser = jd.load_denoiser("hf:us/faces")
    assert denoiser.image_shape == (16, 16, 3)
    folder = hub.converted("hf:us/faces")
    about = json.loads((folder / "prior.json").read_text())["source"]
    assert about["hub"] == "hf:us/faces"
    assert about["commit"] == COMMIT
    made = (folder / "prior.json").stat().st_mtime_ns
    Handler.asked = []
    offline()
    again = jd.load_denoiser("hf:us/faces")
    assert not Handler.asked
    assert again.image_shape == denoiser.image_shape
    assert (folder / "prior.json").stat().st_mtime_ns == made


def test_one_weight_file_and_no_configuration(server):
    found = hub.fetch(hub.parse_address("hf:us/lone"))
    assert (found.path.name, found.commit) == ("net.pkl", COMMIT)
    assert hub.fetch(hub.parse_address("hf:us/lone@main:net.pkl")) == found


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:us/nowhere", "is no repository of the hub, or a private one"),
        ("hf:us/gated", r"is gated: accept its terms at https://huggingface\.co/us/gated"),
        ("hf:us/faces@v9", "has no such revision"),
        ("hf:us/faces:missing.pth", "has no such file"),
        ("hf:us/lone:README.md", "is no weight file"),
        ("hf:us/several", r"has several weight files: a\.pth, b\.pth; name one"),
        ("hf:us/empty", r"has neither config\.json nor a weight file"),
        ("hf:us/cut", r"has no diffusion_pytorch_model\.safetensors or \.bin"),
        ("hf:us/hostile", r"asks for the Python object os\.system"),
    ],
)
def test_each_refusal_is_one_sentence(server, tmp_path, address, message):
    with pytest.raises(ValueError, match=message) as found:
        jd.load_denoiser(address)
    assert str(found.value).endswith(".")
    assert str(found.value).isprintable()
    assert not list(tmp_path.glob("priors/*/*"))


def test_offline_without_the_cache(server, offline):
    offline()
    with pytest.raises(ValueError, match="is not in the cache, and offline mode"):
        jd.load_denoiser("hf:us/faces")


def test_no_network(server, monkeypatch, capfd):
    jd.load_denoiser("hf:us/faces")
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for a server that does not answer"))
    with pytest.raises(ValueError, match="is not in the cache, and the hub cannot be reached: check the network"):
        jd.load_denoiser("hf:us/lone:net.pkl")
    assert jd.load_denoiser("hf:us/faces").image_shape  # the cache is enough
    assert "Retry" not in "".join(capfd.readouterr())


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxdiff\[hub\]'"):
        jd.load_denoiser("hf:us/faces")

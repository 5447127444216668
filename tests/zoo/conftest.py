import types

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download, hf_api
from huggingface_hub.utils import _detect_agent, _http

from tests.zoo.hub_server import HubServer


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server with the users alice and bob, and a client in this process that knows no other and is nobody.

    `hub.waits` lists the seconds that the client would have slept before it tried again.
    """
    with HubServer({"alice-token": "alice", "bob-token": "bob"}) as server:
        # Read from HF_ENDPOINT at import: by new HfApi objects, for the URLs of files, and by the module's own functions.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        # The developer's own cache, login and offline switch stay out of the tests.
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        # With hf_xet installed every upload of a large file goes to Xet, whatever the server answers.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        # Otherwise the first request of the process would ask the server for a list of coding agents.
        monkeypatch.setattr(_detect_agent, "_registry", {"standardEnvVars": [], "harnesses": {}})
        # A download is continued after whole chunks only, of 10 MB.
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        # A proxy would not reach this machine.
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        server.waits = []
        for module in (_http, file_download):
            monkeypatch.setattr(module, "time", types.SimpleNamespace(sleep=server.waits.append))
        # The client of an earlier test has read the proxies already.
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()

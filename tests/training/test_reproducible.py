"""Two runs end with the same bits, whatever prepares their pictures, wherever they stand, whatever language and hash seed the system has."""
import shutil

import pytest
from torture import FAMILIES, LINUX, differences

pytestmark = [LINUX, pytest.mark.torture]
LOADERS = [(workers, start) for workers in (1, 2, 4) for start in ("fork", "spawn")]
SYSTEMS = [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "77", "LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8", "TZ": "Asia/Shanghai"}]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, server):
    """-> words, the fingerprint of their run."""
    words = FAMILIES[request.param]
    return words, server.whole(*words)[1]


@pytest.mark.parametrize("workers, start", LOADERS)
def test_workers(server, family, workers, start):
    words, whole = family
    assert not differences(whole, server.whole(*words, f"num_workers={workers}", faults=[["workers_by", start]])[1])


def test_twice(server, family):
    words, whole = family
    assert not differences(whole, server.whole(*words)[1])
    assert set(differences(whole, server.whole(*words, "cache=False")[1])) == {"last.settings.cache", "best.pth"}       # which names that setting


@pytest.mark.parametrize("system", SYSTEMS, ids=str)
def test_systems(server, family, system):
    words, whole = family
    server.stop()
    server.start(**system)
    try:
        assert not differences(whole, server.whole(*words)[1])
    finally:
        server.stop()
        server.start()


def test_another_folder_and_order_of_files(server, family, tmp_path):
    """The project in a folder of a plain name, its files written in the opposite order (which a file system may list in
    its own order all the same), its lists made anew."""
    words, whole = family
    old, new = server.project, tmp_path / "plain"
    server.stop()
    for path in sorted((path for path in old.rglob("*") if path.is_file() and not {"logs", "kept"} & set(path.relative_to(old).parts)), reverse=True):
        if not (path.parent == old and path.suffix == ".txt"):
            (new / path.relative_to(old)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, new / path.relative_to(old))
    (new / "kept").mkdir()
    server.project = new
    server.start()
    try:
        assert not differences(whole, server.whole(*words)[1])
    finally:
        server.stop()
        server.project = old
        server.start()

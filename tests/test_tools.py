"""What keeps the packages of an installation known: digests of pip's own report, and answers of pip-audit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import audit
import hashes

WHERE = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}


def package(name: str, **info: object) -> dict:
    return {"metadata": {"name": name, "version": "1.0"}, "download_info": {"url": f"https://x/{name}.whl", **info}}


def test_each_package_has_the_digest_of_its_file():
    made = {"archive_info": {"hashes": {"sha256": "ab"}}}
    report = {
        "environment": WHERE,
        "install": [package("PyYAML", **made), package("onecycle", dir_info={}), package("attrs", **made)],
    }
    head, *lines = hashes.locked(report).splitlines()
    assert "linux x86_64, Python 3.11" in head
    assert lines == ["attrs==1.0 --hash=sha256:ab", "pyyaml==1.0 --hash=sha256:ab"]


def test_a_package_without_a_digest_is_refused():
    with pytest.raises(ValueError, match="no SHA-256 of attrs"):
        hashes.locked({"environment": WHERE, "install": [package("attrs", archive_info={})]})


def test_the_file_in_the_repository_has_the_versions_of_the_constraints():
    pinned = dict(
        line.split("==") for line in (hashes.ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    known = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    lines = [line for line in hashes.HASHES.read_text().splitlines() if not line.startswith("#")]
    locked = {line.partition("==")[0].replace("_", "-"): line.partition("==")[2].split()[0] for line in lines}
    assert len(lines) > 100
    assert {name: v for name, v in locked.items() if known.get(name, v) != v} == {}
    assert all(line.count(" --hash=sha256:") == 1 and len(line.rsplit(":", 1)[1]) == 64 for line in lines)


def test_what_the_service_did_not_answer_is_no_good_news():
    good, lost = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
    assert audit.told([good]) == ("1 of 1 packages were looked up, 0 known faults.", 0)
    assert audit.told([good, lost])[1] == audit.UNKNOWN
    assert "Nothing is known of 1" in audit.told([good, lost])[0]
    assert audit.told([bad, lost])[1] == audit.FAULTY
    assert audit.told([bad])[0].startswith("c 2: CVE-1, mended in 2.1\n")
    assert audit.told("no route to host")[1] == audit.UNKNOWN
